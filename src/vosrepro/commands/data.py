"""`vosrepro data`: generate the mini data, verify any data root, write the manifest of a study."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.targets import Place, SourcePath, TargetPath
from vosrepro.base.units import size
from vosrepro.datasets.sets.folders import SOURCES
from vosrepro.study.params import DataParams
from vosrepro.study.paths import data_manifest

if TYPE_CHECKING:
    from vosrepro.datasets.prepare.listing import Listing
    from vosrepro.study.plan import Plan

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    generate = actions.add_parser("generate", help="make the mini data (16 MB, about 15 s)")
    generate.add_argument("--root", type=TargetPath, default="data/mini", help="default: %(default)s")
    generate.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    generate.add_argument("--force", action="store_true", help="make it anew even if it is complete")

    ready = actions.add_parser(
        "prepare",
        help="put a real data set in place: from archives, or a folder that you have",
        description="Archives are extracted safely into the official layout; a folder is linked. Without "
        "PATH, archives in ROOT/downloads are taken. Then everything is verified and described.",
    )
    ready.add_argument("name", metavar="NAME", help=", ".join(SOURCES))
    ready.add_argument("paths", metavar="PATH", nargs="*", type=SourcePath, help="archives, or one folder")
    ready.add_argument("--root", type=Place, default="real", help="data root (default: %(default)s)")
    ready.add_argument("--copy", action="store_true", help="copy a folder instead of linking it")
    ready.add_argument(
        "--download", action="store_true", help="fetch archives that need no login; goes on where it stopped"
    )
    ready.add_argument(
        "--jjval",
        type=SourcePath,
        metavar="FILE",
        help="list of held-out YouTube-VOS videos (FRTM's lib/ytvos_jjvalid.txt)",
    )
    ready.add_argument(
        "--out",
        type=TargetPath,
        metavar="JSON",
        help="the manifest; its listing goes beside it (default: ROOT/manifests/NAME.json)",
    )

    convert = actions.add_parser(
        "convert",
        help="make the smaller copies that training reads",
        description="youtube-480p: YouTube/train to YouTube/train_480p. static-384: BIG and HRSOD to BIG_small "
        "and HRSOD_small. static-pairs: SOURCE with images and masks in folders of their own (DUTS, ECSSD, HRSOD) "
        "to a flat TARGET. Finished files are kept, so that a run goes on where it stopped.",
    )
    convert.add_argument("kind", choices=("youtube-480p", "static-384", "static-pairs"))
    convert.add_argument("source", type=SourcePath, nargs="?", help="default: the usual folders below ROOT")
    convert.add_argument("target", type=TargetPath, nargs="?")
    convert.add_argument("--root", type=Place, default="real", help="data root (default: %(default)s)")
    convert.add_argument("--out", type=TargetPath, metavar="JSON", help="record what was made")
    convert.add_argument("--processes", type=int, default=1, help="(default: %(default)s)")

    verify = actions.add_parser("verify", help="say in a sentence what a data root lacks")
    where = verify.add_mutually_exclusive_group()
    where.add_argument("--study", type=SourcePath, help="check what a study (params/studies/<study>.yaml) reads")
    where.add_argument("--root", type=SourcePath, default="real", help="check a data root (default: %(default)s)")
    verify.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="sets (davis2017) or parts (davis17-val); default: all that is needed or there",
    )
    verify.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        dest="sets",
        help="with --root: the folder of a set that lies elsewhere, e.g. davis2016=/data/DAVIS",
    )
    verify.add_argument(
        "--against",
        type=SourcePath,
        metavar="CSV",
        help="say which folders differ from a listing that `data prepare` wrote",
    )
    verify.add_argument("--full", action="store_true", help="read every file of large sets too")

    manifest = actions.add_parser("manifest", help="make or check a study's data and describe it")
    manifest.add_argument("--study", type=SourcePath, required=True, help="params/studies/<study>.yaml")
    manifest.add_argument("--out", type=TargetPath, required=True, help=str(data_manifest("<study>")))


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command.

    Returns:
        0; faults are raised as `VosreproError`.
    """
    actions = {
        "generate": _generate,
        "verify": _verify,
        "manifest": _manifest,
        "prepare": _prepare,
        "convert": _convert,
    }
    actions[args.action](args)
    return 0


def _prepare(args: argparse.Namespace) -> None:
    from vosrepro.datasets.prepare.prepare import manifest_file, prepare_set

    data = DataParams(root=str(args.root))
    manifest = prepare_set(
        args.name,
        data,
        args.paths,
        copy=args.copy,
        fetch=args.download,
        jjval=args.jjval,
        out=args.out,
    )
    _show(manifest)
    print(f"described in {args.out or manifest_file(args.name, data)}")


def _convert(args: argparse.Namespace) -> None:
    from vosrepro.base.files import write_json
    from vosrepro.base.provenance import provenance
    from vosrepro.datasets.prepare import conversions

    if (args.source is None) != (args.target is None):
        raise ConfigError("give both SOURCE and TARGET, or none of them")
    pairs = (
        [(args.source, args.target)]
        if args.source
        else conversions.usual_places(args.kind, DataParams(root=str(args.root)))
    )
    made = {}
    for source, target in pairs:
        if args.kind == "youtube-480p":
            count = conversions.resize_youtube(source, target, processes=args.processes)
        elif args.kind == "static-384":
            count = conversions.shrink_static(source, target)
        else:
            count = conversions.gather_pairs(source, target)
        print(f"{target}: {count} {'files' if args.kind == 'youtube-480p' else 'images'}")
        made[str(target)] = {"source": str(source), "count": count}
    if args.out:
        write_json(args.out, {"kind": args.kind, "made": made, "provenance": provenance()})


def _generate(args: argparse.Namespace) -> None:
    from vosrepro.datasets.generated import generate

    root = args.root
    if not args.force and _is_current(root, args.seed):
        print(f"{root} is complete and up to date")
        return
    generate(root, seed=args.seed)
    _show(_verified(DataParams(root=str(root), generated=True, seed=args.seed), None))


def _verify(args: argparse.Namespace) -> None:
    from vosrepro.datasets.generated import read_marker
    from vosrepro.datasets.prepare.inventory import defect_list
    from vosrepro.datasets.prepare.listing import Listing

    before = Listing.read(args.against) if args.against else None
    names = args.names or (before.parts() if before else None)
    if args.study:
        from vosrepro.datasets.prepare.verification import parts_of_plan
        from vosrepro.study.plan import load_plan

        plan = load_plan(args.study)
        data, names = plan.study.data, names or parts_of_plan(plan)
    else:
        generated = read_marker(args.root) is not None
        sets = dict(map(_assignment, args.sets))
        data = DataParams(root=str(args.root), sets=sets, generated=generated)
    now = Listing()
    _show(_verified(data, names, full=args.full, listing=now))
    differences = before.differences(now) if before else []
    if differences:
        raise DataError(f"{data.root} differs from {args.against}: {defect_list(differences)}")


def _assignment(text: str) -> tuple[str, str]:
    name, separator, folder = text.partition("=")
    if not separator or name not in SOURCES:
        raise ConfigError(f"--set {text} is not NAME=FOLDER with a NAME of {', '.join(SOURCES)}")
    return name, str(Path(folder).absolute())  # relative to here, not to the root


def _manifest(args: argparse.Namespace) -> None:
    from vosrepro.study.digests import code_of
    from vosrepro.study.plan import load_plan
    from vosrepro.study.records import DataManifest, Provenance

    plan = load_plan(args.study)
    found, study = prepare_data(plan), plan.study.study
    DataManifest(**found, study=study, code=code_of("data"), provenance=Provenance.here()).write(args.out)


def prepare_data(plan: Plan) -> dict[str, Any]:
    """Generate a study's data if it is to be generated and is not there; verify what the study reads.

    A root that is complete is only read, so it may be read-only.

    Returns:
        The manifest of `vosrepro.datasets.prepare.verification.verify`.

    Raises:
        DataError: if something is missing or broken.
    """
    from vosrepro.datasets.generated import generate
    from vosrepro.datasets.prepare.verification import parts_of_plan

    data = plan.study.data
    if data.generated and not _is_current(Path(data.root), data.seed):
        log.info("generating %s", data.root)
        generate(Path(data.root), seed=data.seed)
    manifest = _verified(data, parts_of_plan(plan))
    log.info("%s: %d files, digest %s", data.root, manifest["files"], manifest["digest"])
    return manifest


def _is_current(root: Path, seed: int) -> bool:
    from vosrepro.datasets.generated import is_current

    return is_current(root, seed=seed)


def _verified(
    data: DataParams,
    names: list[str] | None,
    *,
    full: bool = False,
    listing: Listing | None = None,
) -> dict[str, Any]:
    from vosrepro.datasets.prepare.verification import verify

    return verify(data, names, full=full, listing=listing)


def _of_official(facts: dict[str, Any]) -> str:
    official = facts.get("official_videos")
    return f"{facts['videos']}" if official is None else f"{facts['videos']} of {official}"


def _show(manifest: dict[str, Any]) -> None:
    width = max(len(part) for part in manifest["parts"])
    for part, facts in manifest["parts"].items():
        print(
            f"{part:<{width}}  {_of_official(facts):>14} videos or images, {facts['frames']:>8} frames, "
            f"{facts['masks']:>8} masks, {size(facts['bytes']):>13}, "
            f"{facts['digest_of']} {facts['digest']}"
        )
    print(f"complete: {manifest['root']}, digest {manifest['digest']}")
