"""Score a folder or a zip of result masks, exactly as the official tools, in a fraction of their time.

  vosrepro score masks/ --truth DAVIS/ --protocol davis2017
  vosrepro score masks.zip --truth DAVIS/ --protocol davis2016 --out scores/
  vosrepro score masks/ --truth train/ --protocol ytvos-local --sequences held_out.txt
  vosrepro score masks/ --truth DAVIS/ --protocol davis2017 --explain dog 00012 1

Masks lie at <sequence>/<frame>.png: object ids as 8-bit palette or grey PNG (1-, 2- and 4-bit files too),
named and sized like the annotations. TRUTH is a DAVIS root (its ImageSets list is used), a YouTube-VOS
split (its meta.json is used), or any folder or zip of annotations in the same layout.

protocols:
  davis2017           frames without the first and last; objects 1..K of the first annotation; void is
                      background; any other predicted id is refused. The official DAVIS 2017 numbers.
  davis2016           one object; annotations and results are {0,1}, {0,255} or 1-bit. The official
                      DAVIS 2016 numbers.
  davis2016-merged17  one object, every non-zero label merged: the variant of FRTM and its family.
  ytvos-local         each object from the frame after its first; for splits whose annotations are public.
                      J and F of seen and unseen categories with --seen. Approximates the server's rule.
  frtm, vos-benchmark, sav
                      the rules of andr345/frtm-vos, hkchengrex/vos-benchmark and facebookresearch/sam2.

Nothing is resized, guessed or skipped: a missing frame, another size, an unknown id or a damaged file
stops with a sentence that names sequence, frame and id, and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vosrepro.base.errors import ConfigError
from vosrepro.base.targets import Place, SourcePath, TargetPath
from vosrepro.scoring.counting.layout import Layout, find_layout, read_sequence_list
from vosrepro.scoring.counting.protocols import PROTOCOLS, find_protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vosrepro.scoring.score import Score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `vosrepro score`."""
    add = parser.add_argument
    add(
        "results",
        metavar="RESULTS",
        type=SourcePath,
        help="folder or zip of masks; masks.zip/inner for a folder inside a zip",
    )
    add("--truth", metavar="DIR", type=SourcePath, required=True, help="the annotations")
    add("--protocol", metavar="ID", required=True, help=f"one of {', '.join(PROTOCOLS)}")
    add(
        "--sequences",
        metavar="FILE",
        type=SourcePath,
        help="score only these, one name per line (default: the data set's list, else all)",
    )
    add(
        "--split",
        default="val",
        help="which ImageSets list of a DAVIS root, and part of file names (default: %(default)s)",
    )
    add("--meta", metavar="FILE", type=SourcePath, help="meta.json of a YouTube-VOS split")
    add(
        "--seen",
        metavar="FILE",
        type=SourcePath,
        help="training meta.json, or a list of its categories: split scores into seen and unseen",
    )
    add(
        "--processes",
        metavar="N",
        type=int,
        default=0,
        help="worker processes; 0 is one per core, if there is work for them (default: %(default)s)",
    )
    add(
        "--cache",
        metavar="DIR",
        type=Place,
        help="keep decoded annotations here, keyed by content, for scoring the same truth often",
    )
    add(
        "--out",
        metavar="DIR",
        type=TargetPath,
        help="write counts.parquet, scores.csv, score.json, and the official global_results-<split>.csv "
        "and per-sequence_results-<split>.csv",
    )
    add("--force", action="store_true", help="replace scores of other masks in --out")
    add(
        "--explain",
        nargs=3,
        metavar=("SEQ", "FRAME", "OBJ"),
        help="show the counts of one object in one frame and write a picture of its boundaries (into --out, else here)",
    )
    add("--json", action="store_true", help="print score.json instead of tables")


def run(args: argparse.Namespace) -> int:
    """Score, print, write."""
    import json
    import os

    protocol = find_protocol(args.protocol)
    if args.processes < 0:
        raise ConfigError(f"--processes {args.processes} is negative: give 0 or more")
    layout = find_layout(args.truth, protocol, split=args.split, sequences=args.sequences, meta=args.meta)
    if args.explain:
        return _explain(args, layout)
    if args.out is not None and not args.force:
        _keep_others(args)
    if "numpy" not in sys.modules:  # no linear algebra here: its threads would only cost start-up
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from vosrepro.scoring.scorer import score_folder

    score = score_folder(
        args.results,
        layout.folder,
        args.protocol,
        sequences=layout.sequences,
        meta=layout.meta,
        seen=None if args.seen is None else _categories(args.seen),
        processes=args.processes,
        cache=args.cache,
    )
    if args.out is not None:
        extra = {"results": str(args.results), "truth": str(args.truth), "split": args.split}
        score.write(args.out, extra=extra, split=args.split)
    print(json.dumps(score.summary(), indent=2, sort_keys=True) if args.json else page(score, layout))
    for warning in score.warnings:
        print(f"vosrepro: warning: {warning}", file=sys.stderr)
    if args.out is not None and not args.json:
        print(f"\nwritten to {args.out}")
    return 0


def page(score: Score, layout: Layout | None = None) -> str:
    """The tables as text: global means, then one row per object."""
    from vosrepro.scoring.score import GLOBAL

    title = PROTOCOLS[score.protocol].title
    listed = f" of {layout.listed_in}" if layout is not None and layout.listed_in else ""
    lines = [
        f"{score.protocol}: {title}",
        f"{len(score.sequences)} sequences{listed}, {len(score.rows)} objects, {score.frames} frames",
        "",
        "  ".join(f"{name:>8}" for name in GLOBAL),
        "  ".join(f"{score.global_[name]:8.3f}" for name in GLOBAL),
        "",
    ]
    if any(row.group for row in score.rows):
        names = ("G", "J_seen", "J_unseen", "F_seen", "F_unseen")
        values = [f"{score.global_[n]:8.3f}" if n in score.global_ else "     n/a" for n in names]
        lines += ["  ".join(f"{name:>8}" for name in names), "  ".join(values), ""]
    width = max([len(row.sequence) for row in score.rows] + [len("sequence")])
    measures = "  ".join(f"{name:>8}" for name in GLOBAL[1:])
    lines.append(f"{'sequence':<{width}}  object  frames  {measures}")
    for row in score.rows:
        values = "  ".join(f"{value:8.3f}" for value in row.values)
        lines.append(f"{row.sequence:<{width}}  {row.object_id:6d}  {row.frames:6d}  {values}")
    return "\n".join(lines)


def _keep_others(args: argparse.Namespace) -> None:
    """Refuse a folder that holds the scores of other masks, or by another protocol."""
    from vosrepro.base.files import read_json
    from vosrepro.scoring.score import ENTRY_SCORE

    path = args.out / ENTRY_SCORE
    old = read_json(path) if path.is_file() else {}
    asked = {"results": str(args.results), "truth": str(args.truth), "protocol": args.protocol}
    for name, value in asked.items():
        if old.get(name, value) != value:
            raise ConfigError(
                f"{path} holds scores of other {name} ({old[name]}): give another folder with --out, or replace "
                "them with --force"
            )


def _explain(args: argparse.Namespace, layout: Layout) -> int:
    import json

    from vosrepro.scoring.explain import LEGEND, explain, write_picture

    sequence, frame, number = args.explain
    if not number.isdecimal():
        raise ConfigError(f"--explain: '{number}' is not an object id: give SEQ FRAME OBJ")
    found = explain(args.results, layout.folder, args.protocol, sequence, frame, int(number), meta=layout.meta)
    path = (args.out or Path()) / f"explain-{sequence}-{frame}-{number}.png"
    write_picture(path, found.picture)
    if args.json:
        values = {**found._asdict(), "picture": str(path)}
        print(json.dumps(values, indent=2))
        return 0
    print(f"{sequence}, frame {frame}, object {number}, protocol {args.protocol}", end="")
    print("" if found.scored else " (this frame is not scored by the protocol)")
    c = found.counts
    union = c["gt"] + c["pred"] - c["inter"]
    print(f"\nJ = {found.j:.6f}: {c['inter']} pixels in both masks of {union} in either")
    print(f"    annotated {c['gt']}, predicted {c['pred']}")
    print(f"F = {found.f:.6f}: boundary within {found.radius} pixels")
    print(f"    precision {found.precision:.6f}: {c['pred_match']} of {c['pred_boundary']}")
    print(f"    recall    {found.recall:.6f}: {c['gt_match']} of {c['gt_boundary']}")
    print(f"\n{path}:")
    for color, meaning in LEGEND.values():
        print(f"    #{bytes(color).hex()}  {meaning}")
    return 0


def _categories(path: Path) -> Sequence[str]:
    """Categories of a training meta.json, or of a list."""
    if path.suffix != ".json":
        return read_sequence_list(path)
    from vosrepro.scoring.scorer import Meta

    return Meta(path, None).categories()
