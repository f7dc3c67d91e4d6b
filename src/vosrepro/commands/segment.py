"""Segment your own clip.

  vosrepro segment --method stm --weights weights/stm/released.safetensors clip.mp4 first.png
  vosrepro segment --method stm --weights W.safetensors frames/ 0=a.png 120=b.png --overlay look.mp4

VIDEO is a file of any format that FFmpeg reads or a folder of JPEG or PNG frames. A MASK is a palette or
grey PNG of the frame's size: 0 is background, each object has a value of its own (1, 2, ...), or one
object is white. A single MASK belongs to the first frame; of several each says its frame, FRAME=MASK (the
frame's name or its number; where names are no numbers, the first is 0), or is called like it. An object begins where
its mask is given. Photos that viewers turn are turned; masks fit what is seen.

Masks go to --out as palette PNGs of the clip's size, one for each frame from the first mask on. The same call
again does nothing if the clip is finished; if it was interrupted, it goes on from the state that is saved
every minute on a CPU, with exactly the masks of an uninterrupted call (on a GPU it starts anew). --overlay
draws the finished masks over the clip (.mp4 or .webm). Masks of another clip, another method or other settings, and
those that you changed, are replaced with --force only.

A method went wrong at frame 40? Copy that mask, mend the copy, and give the same call with --correct 40=mended.png:
masks before it stay, and the rest is made again by a method that remembers the frames before and your mask (it sees
them again, which takes the time that they took). --preview 3 makes the first three seconds, in its own folder.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any

from vosrepro.base.errors import ConfigError
from vosrepro.base.targets import SourcePath, TargetPath, refuse

_SIDE_PX = 480


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The clip, its masks, the method and its weights."""
    add = parser.add_argument
    add("video", metavar="VIDEO", type=SourcePath)
    add("masks", metavar="MASK", nargs="+")
    add("--method", required=True, help="stm, frtm, ... or a floor: copy, flow")
    add(
        "--weights",
        type=SourcePath,
        metavar="FILE",
        help="a safetensors file: weights/METHOD/RECIPE.safetensors or results/.../selected.safetensors",
    )
    add(
        "--out",
        type=TargetPath,
        metavar="DIR",
        help="folder for the masks (default: <VIDEO's name>-<METHOD>-masks, or -preview)",
    )
    add("--force", action="store_true", help="replace what an earlier call left in --out or --overlay")
    add("--check", action="store_true", help="only say whether clip, masks and targets are in order; write nothing")
    add("--correct", metavar="FRAME=MASK", help="go on from here: all objects of this frame, drawn as they should be")
    add("--preview", type=_seconds, metavar="SECONDS", help="only so much from the first mask on")
    add("--overlay", type=TargetPath, metavar="FILE", help="also write a video to look at: .mp4 or .webm")
    add("--variant", help="inference settings by name (default: the method's)")
    add(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one inference setting, e.g. top_k=20",
    )
    add(
        "--short-side",
        type=int,
        metavar="PX",
        help="run at this size; masks keep the clip's (default: 480 where the clip is larger; 0: the clip's)",
    )
    add(
        "--memory",
        type=int,
        metavar="N",
        default=40,
        help="frames that a method with a growing memory keeps (default: %(default)s; 0: all)",
    )
    add(
        "--fps",
        type=Fraction,
        help="frame rate of the overlay (default: the video's; 25 for a folder)",
    )
    add(
        "--size",
        help="of weights that lie elsewhere: full, mini, ... of params/methods/METHOD.yaml",
    )
    add("--recipe", help="with --size: a recipe of that size, which tells the network")
    add("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add("--threads", type=int, help="CPU threads of torch (default: its own choice)")
    add(
        "--precision",
        choices=("fp32", "bf16", "auto"),
        default="fp32",
        help="auto: bf16 where the machine computes in it and the method's card says masks stay (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Segment the clip, then draw the overlay."""
    import torch

    from vosrepro.inference.overlay import check_target
    from vosrepro.inference.own.segment import check_clip, overlay_clip, segment_clip

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.overlay:
        check_target(args.overlay, force=args.force)
    job = _job(args)
    refuse({"--overlay": args.overlay} if args.overlay else {}, job.sources)
    names = job.clip.frame_names
    first = min(names.index(frame) for frame in job.clip.starts.values())
    if args.check:
        state = "finished before" if check_clip(job) else "nothing is in the way"
        begins = ", ".join(f"object {identity} on frame {frame}" for identity, frame in sorted(job.clip.starts.items()))
        print(f"{args.video}: {len(names)} frames; {begins}\n{job.out}: {len(names) - first} masks; {state}")
        return 0
    if args.correct:
        record = _correct(job, args.correct)
    else:
        with _bar(len(names) - first, "masks") as bar:
            record = segment_clip(job, progress=bar.update)
    if record["reused"]:
        print(f"{job.out}: finished before ({record['frames']} masks)")
    else:
        rate, peak = record["timing"]["fps_amortised"], record["memory"]["peak_rss_mb"]
        print(
            f"{job.out}: {record['frames']} masks of {len(record['objects'])} objects, "
            f"{rate:.2f} frames/s, peak memory {peak:.0f} MB"
        )
    if args.overlay:
        with _bar(len(names), "overlay") as bar:
            overlay_clip(job, args.overlay, progress=bar.update)
        print(f"{args.overlay}: {len(names)} frames, {float(job.clip.images.rate):.5g} frames/s")
    return 0


def _job(args: argparse.Namespace) -> Any:
    from vosrepro.base.machine import computes_bf16, pick_device
    from vosrepro.inference.own.own_clip import OwnClip, assign_masks, open_images, preview
    from vosrepro.inference.own.segment import ClipJob
    from vosrepro.inference.own.setup import find_setup
    from vosrepro.methods import get_method
    from vosrepro.methods.common.precision import resolve_precision

    setup = find_setup(
        args.method,
        args.weights,
        variant=args.variant,
        size=args.size,
        recipe=args.recipe,
        changes=dict(map(_assignment, args.changes)),
    )
    images = open_images(args.video, rate=args.fps)
    masks = assign_masks(args.masks, images.frame_names)
    if args.preview:
        images, masks = preview(images, masks, args.preview)
    clip, device = OwnClip(images, masks), pick_device(args.device)
    return ClipJob(
        clip,
        setup,
        args.out or Path(f"{images.name}-{args.method}-{'preview' if args.preview else 'masks'}"),
        device,
        _short_side(args.short_side, setup.input_short_side_px, clip),
        args.memory or None,
        force=args.force,
        precision=resolve_precision(get_method(setup.method), args.precision, native=computes_bf16(device)),
    )


def _correct(job: Any, text: str) -> dict[str, Any]:
    from vosrepro.inference.own.correct import correct_clip
    from vosrepro.inference.own.own_clip import assign_masks

    if "=" not in text:
        raise ConfigError(f"--correct {text} is not FRAME=MASK")
    names = list(job.clip.frame_names)
    ((frame, mask),) = assign_masks([text], names).items()
    refuse({"--out": job.out}, [*job.sources, mask])
    with _bar(len(names) - names.index(frame), "masks") as bar:
        return correct_clip(job, frame, mask, progress=bar.update)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{text} seconds are no time")
    return seconds


def _short_side(asked: int | None, usual: int | None, clip: Any) -> int | None:
    """The evaluation size; never larger than the clip unless asked for."""
    if asked is not None:
        return asked or None
    first = clip.frame_names.index(min(clip.starts.values(), key=clip.frame_names.index))
    own = min(clip.labels(clip.frame_names[first]).shape)
    wanted = usual or _SIDE_PX
    return wanted if own > wanted else None


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {text} is not KEY=VALUE")
    return key, yaml.safe_load(value)


def _bar(total: int, what: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="frame", disable=None, mininterval=0.5)
