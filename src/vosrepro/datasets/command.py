"""`vosrepro data`: generate the mini data, verify any data root, write the manifest of a study."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.datasets.folders import SOURCES
from vosrepro.errors import ConfigError
from vosrepro.params import DataParams

if TYPE_CHECKING:
    from vosrepro.plan import Plan

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `generate`, `verify` and `manifest`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    generate = actions.add_parser("generate", help="make the mini data (13 MB, about 10 s)")
    generate.add_argument("--root", default="data/mini", help="default: %(default)s")
    generate.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    generate.add_argument(
        "--force", action="store_true", help="make it anew even if it is complete"
    )

    ready = actions.add_parser(
        "prepare", help="put a real data set in place: from archives, or a folder that you have",
        description="Archives are extracted safely into the official layout; a folder is linked. Without "
        "PATH, archives in ROOT/downloads are taken. Then everything is verified and described.",
    )  # fmt: skip
    ready.add_argument("name", metavar="NAME", help=", ".join(SOURCES))
    ready.add_argument(
        "paths", metavar="PATH", nargs="*", type=Path, help="archives, or one folder"
    )
    ready.add_argument("--root", default="real", help="data root (default: %(default)s)")
    ready.add_argument("--copy", action="store_true", help="copy a folder instead of linking it")
    ready.add_argument(
        "--download", action="store_true", help="fetch archives that need no login; goes on where it stopped"
    )  # fmt: skip
    ready.add_argument("--jjval", type=Path, metavar="FILE",
                       help="list of held-out YouTube-VOS videos (FRTM's lib/ytvos_jjvalid.txt)")  # fmt: skip

    convert = actions.add_parser("convert", help="make the smaller copies that training reads")
    convert.add_argument("kind", choices=("youtube-480p", "static-384"))
    convert.add_argument("source", type=Path, help="YouTube/train, or a folder of large images")
    convert.add_argument("target", type=Path, help="YouTube/train_480p, or static/BIG_small")
    convert.add_argument("--processes", type=int, default=1, help="(default: %(default)s)")

    verify = actions.add_parser("verify", help="say in a sentence what a data root lacks")
    where = verify.add_mutually_exclusive_group()
    where.add_argument("--study", help="check what a study (params/studies/<study>.yaml) reads")
    where.add_argument("--root", default="real", help="check a data root (default: %(default)s)")
    verify.add_argument("names", nargs="*", metavar="NAME",
                        help="sets (davis2017) or parts (davis17-val); default: all that is needed or there")  # fmt: skip
    verify.add_argument(
        "--set", action="append", default=[], metavar="NAME=FOLDER", dest="sets",
        help="with --root: the folder of a set that lies elsewhere, e.g. davis2016=/data/DAVIS",
    )  # fmt: skip
    verify.add_argument("--full", action="store_true", help="read every file of large sets too")

    manifest = actions.add_parser("manifest", help="make or check a study's data and describe it")
    manifest.add_argument("--study", required=True, help="params/studies/<study>.yaml")
    manifest.add_argument("--out", required=True, help="results/<study>/data.json")


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command.

    Returns:
        0; faults are raised as `VosreproError`.
    """
    actions = {
        "generate": _generate, "verify": _verify, "manifest": _manifest,
        "prepare": _prepare, "convert": _convert,
    }  # fmt: skip
    actions[args.action](args)
    return 0


def _prepare(args: argparse.Namespace) -> None:
    from vosrepro.datasets.prepare import prepare as prepare_set

    manifest = prepare_set(
        args.name, DataParams(root=args.root), args.paths, copy=args.copy, fetch=args.download,
        jjval=args.jjval,
    )  # fmt: skip
    _show(manifest)
    print(f"described in {Path(args.root) / 'manifests' / args.name}.json")


def _convert(args: argparse.Namespace) -> None:
    from vosrepro.datasets import conversions

    if args.kind == "youtube-480p":
        count = conversions.resize_youtube(args.source, args.target, processes=args.processes)
    else:
        count = conversions.shrink_static(args.source, args.target)
    print(f"{args.target}: {count} {'files' if args.kind == 'youtube-480p' else 'images'}")


def _generate(args: argparse.Namespace) -> None:
    from vosrepro.datasets.generated import generate

    root = Path(args.root)
    if not args.force and _is_current(root, args.seed):
        print(f"{root} is complete and up to date")
        return
    generate(root, seed=args.seed)
    _show(_verified(DataParams(root=str(root), generated=True, seed=args.seed), None))


def _verify(args: argparse.Namespace) -> None:
    names = args.names or None
    if args.study:
        from vosrepro.datasets.verification import parts_of_plan
        from vosrepro.plan import load_plan

        plan = load_plan(args.study)
        data, names = plan.study.data, names or parts_of_plan(plan)
    else:
        data = DataParams(root=args.root, sets=dict(map(_assignment, args.sets)))
    _show(_verified(data, names, full=args.full))


def _assignment(text: str) -> tuple[str, str]:
    name, separator, folder = text.partition("=")
    if not separator or name not in SOURCES:
        raise ConfigError(f"--set {text} is not NAME=FOLDER with a NAME of {', '.join(SOURCES)}")
    return name, str(Path(folder).absolute())  # relative to here, not to the root


def _manifest(args: argparse.Namespace) -> None:
    from vosrepro.artifacts import write_json
    from vosrepro.plan import load_plan
    from vosrepro.provenance import provenance, source_digest

    plan = load_plan(args.study)
    manifest = prepare(plan)
    record = {
        "study": plan.study.study,
        **manifest,
        "code": source_digest("datasets"),
        "provenance": provenance(),
    }
    write_json(args.out, record)


def prepare(plan: Plan) -> dict[str, Any]:
    """Generate a study's data if it is to be generated and is not there; verify what the study reads.

    A root that is complete is only read, so it may be read-only.

    Returns:
        The manifest of `vosrepro.datasets.verification.verify`.

    Raises:
        DataError: if something is missing or broken.
    """
    from vosrepro.datasets.generated import generate
    from vosrepro.datasets.verification import parts_of_plan

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


def _verified(data: DataParams, names: list[str] | None, *, full: bool = False) -> dict[str, Any]:
    from vosrepro.datasets.verification import verify

    return verify(data, names, full=full)


def _show(manifest: dict[str, Any]) -> None:
    width = max(len(part) for part in manifest["parts"])
    for part, facts in manifest["parts"].items():
        print(
            f"{part:<{width}}  {facts['videos']:>6} videos or images, {facts['frames']:>8} frames, "
            f"{facts['masks']:>8} masks, {facts['bytes'] / 1e6:>10.1f} MB, "
            f"{facts['digest_of']} {facts['digest']}"
        )
    print(f"complete: {manifest['root']}, digest {manifest['digest']}")
