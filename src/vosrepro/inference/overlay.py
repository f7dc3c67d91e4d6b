"""A video of frames with their masks drawn over them, in a form that browsers play."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.files import atomic

#: Ending -> container, encoder, its options; all with 4:2:0 color, which every browser decodes.
_FORMATS: dict[str, tuple[str, str, dict[str, str]]] = {
    ".mp4": ("mp4", "libx264", {"crf": "20", "preset": "veryfast"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "6"}),
}
_HIGH = 720  # rows from which a video is of high definition
_TICKS = 90_000  # a second, of videos without a constant rate
#: What an overlay says of itself, so that nothing but an overlay is replaced by one.
_MARK = "masks drawn by vosrepro"


def check_target(path: Path, *, force: bool = True) -> None:
    """Refuse an ending that is not known and, without `force`, a file that is no overlay of ours.

    Raises:
        ConfigError: naming the endings, or the way out.
    """
    if not force and path.exists() and not _is_ours(path):
        raise ConfigError(f"{path} is there already and was not made by vosrepro: name another file, or add --force")
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"{path} cannot be written: an overlay is {' (H.264) or '.join(_FORMATS)} (VP9)")


def write_overlay(
    frames: Iterator[np.ndarray],
    target: Path,
    *,
    rate: Fraction,
    times: Sequence[Fraction] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Encode frames, one held at a time; odd sizes get one row or column more, as 4:2:0 needs.

    Args:
        frames: uint8 (H, W, 3) RGB, all of one size.
        target: .mp4 (H.264, starts playing before it is loaded) or .webm (VP9); written atomically.
        rate: frames a second.
        times: seconds at which each frame is shown, if not at a constant rate.
        progress: called after each frame.

    Raises:
        ConfigError: if the ending is neither.
        DataError: if the encoder is missing, or the file cannot be written.
    """
    import av
    from av.codec.codec import UnknownCodecError
    from av.error import FFmpegError

    check_target(target)
    container_format, codec, options = _FORMATS[target.suffix.lower()]
    flags = {"movflags": "+faststart"} if container_format == "mp4" else {}
    with atomic(target) as temporary:
        try:
            with av.open(str(temporary), "w", format=container_format, options=flags) as container:
                container.metadata["comment"] = _MARK
                stream: Any = None
                for place, frame in enumerate(frames):
                    image = _even(frame)
                    if stream is None:
                        stream = container.add_stream(codec, rate=rate, options=options)
                        _describe(stream.codec_context, *image.shape[:2], ticks=times is not None)
                    picture = _colored(image)
                    if times is not None:
                        picture.pts, picture.time_base = round(times[place] * _TICKS), Fraction(1, _TICKS)
                    container.mux(stream.encode(picture))
                    progress()
                if stream is not None:
                    container.mux(stream.encode(None))
        except (FFmpegError, UnknownCodecError) as error:
            raise DataError(f"{target} cannot be encoded with {codec} ({error})") from error


def _describe(context: Any, height: int, width: int, *, ticks: bool) -> None:
    """Size, and what the colors mean: players guess it from the size where a file does not say."""
    context.height, context.width, context.pix_fmt = height, width, "yuv420p"
    standard = 1 if height >= _HIGH else 6  # BT.709 of high definition, BT.601 below, by their numbers in FFmpeg
    context.color_primaries = context.color_trc = context.colorspace = standard
    context.color_range = 1  # 16 to 235
    if ticks:
        context.time_base = Fraction(1, _TICKS)


def _colored(image: np.ndarray) -> Any:
    import av
    from av.video.reformatter import Colorspace

    space = Colorspace.ITU709 if image.shape[0] >= _HIGH else Colorspace.ITU601
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", dst_colorspace=space)


def _is_ours(path: Path) -> bool:
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            return _MARK in {value for name, value in container.metadata.items() if name.lower() == "comment"}
    except (FFmpegError, OSError):
        return False


def _even(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)
