"""Released weights and masks: which there are, and turning weights into ours.

  vosrepro weights list
  vosrepro weights import stm propagation_model.pth
  vosrepro weights import frtm --recipe released-rn18-all     # from weights/frtm/released-rn18-all.pth

A released file is a pickle; it is read by torch's restricted reader and nothing in it is run. Every key and
every shape must fit. The result lies at weights/METHOD/RECIPE.safetensors, with a record of the file's digest,
its licence and the entries that were used in RECIPE.json beside it; the study `released` uses it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vosrepro.base.errors import ConfigError
from vosrepro.base.targets import SourcePath, TargetPath


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `list` and `import`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    known = actions.add_parser("list", help="released checkpoints and masks, where to get them, and which are here")
    known.add_argument(
        "--masks-root", type=SourcePath, metavar="FOLDER", help="folder of published masks (default: weights/masks)"
    )
    one = actions.add_parser("import", help="convert a released checkpoint")
    one.add_argument("method", metavar="METHOD")
    one.add_argument(
        "file",
        metavar="FILE",
        type=SourcePath,
        nargs="?",
        help="the released file (default: weights/METHOD/RECIPE.pth, .pt, ...)",
    )
    one.add_argument("--recipe", help="which released system it is (default: the one that fits)")
    one.add_argument("--size", default="full", help="of the network (default: %(default)s)")
    one.add_argument(
        "--out", type=TargetPath, metavar="FILE", help="safetensors file (default: weights/METHOD/RECIPE.safetensors)"
    )
    one.add_argument("--json", action="store_true", help="print the record as JSON")


def run(args: argparse.Namespace) -> int:
    """List or import."""
    if args.action == "list":
        _list(args.masks_root)
        return 0
    from vosrepro.weights.importing import import_weights

    if args.out is not None and args.out.suffix != ".safetensors":
        raise ConfigError(f"--out {args.out} must end in .safetensors")
    record = import_weights(args.method, args.file, recipe=args.recipe, size=args.size, out=args.out)
    if args.json:
        print(json.dumps(record.stated(), indent=2, sort_keys=True))
        return 0
    entries, source = record.entries, record.source
    print(f"{record.weights}: {args.method}/{record.recipe} from {source.name}")
    print(f"  entries: {entries.used} used, {entries.left_out} left out, {entries.from_elsewhere} from elsewhere")
    print(f"  sha256 of the released file: {source.sha256}")
    print(f"  licence: {source.licence}")
    for name in record.foreign_classes:
        print(f"  not read: objects of class {name}")
    return 0


def _list(root: Path | None) -> None:
    from vosrepro.study.paths import imported_weights
    from vosrepro.weights.released import MaskSet, ReleasedFile, load_released, masks_file

    for method, recipes in load_released().methods.items():
        for recipe, facts in recipes.items():
            if isinstance(facts, ReleasedFile):
                here = imported_weights(method, recipe).is_file()
                print(f"{method}/{recipe}: {'imported' if here else 'not here'}")
            elif isinstance(facts, MaskSet):
                here = masks_file(root, facts)
                print(f"{method}/{recipe}: masks on {facts.masks}, {here or 'not here'}")
            else:
                print(f"{method}/{recipe}: {facts.unavailable}")
                continue
            print(f"  {facts.file}: {facts.obtain}; licence: {facts.licence}{'; ' if facts.note else ''}{facts.note}")
