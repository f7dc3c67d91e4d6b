"""Videos as people have them: uneven rates, covers, changes of size, colors of high definition."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vosrepro.base.errors import DataError
from vosrepro.inference.overlay import write_overlay
from vosrepro.inference.own.own_clip import VideoImages

SHOWN = [Fraction(n, 100) for n in (0, 4, 8, 48, 52, 56, 160)]  # a screen recording: still for long


def colored(height: int, width: int, color: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def overlay(path: Path, images: list[np.ndarray], **options: object) -> Path:
    write_overlay(iter(images), path, rate=Fraction(25), **options)
    return path


def shown(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_an_uneven_rate_is_kept(ending, tmp_path):
    images = [colored(64, 64, (30 * k, 0, 0)) for k in range(len(SHOWN))]
    first = overlay(tmp_path / f"a{ending}", images, times=SHOWN)
    times = VideoImages(first).times
    assert times is not None
    assert np.allclose([float(t) for t in times], [float(t) for t in SHOWN], atol=2e-3)
    again = overlay(tmp_path / f"b{ending}", images, times=times)
    assert np.allclose(shown(again), [float(t) for t in SHOWN], atol=2e-3)
    assert VideoImages(first, rate=Fraction(10)).times is None  # --fps says how long


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_a_constant_rate_stays_constant(ending, tmp_path):
    video = VideoImages(overlay(tmp_path / f"a{ending}", [colored(64, 64, (9, 9, 9))] * 12))
    assert video.times is None
    assert video.rate == 25
    assert len(video.frame_names) == 12


@pytest.mark.parametrize(("height", "standard"), [(718, 6), (720, 1)])
def test_colors_come_back_and_say_what_they_mean(height, standard, tmp_path):
    color = (200, 40, 90)
    path = overlay(tmp_path / "a.mp4", [colored(height, 64, color)] * 2)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (standard,) * 3
        frame = next(iter(container.decode(video=0)))
        space = "ITU709" if standard == 1 else "ITU601"
        back = frame.reformat(format="rgb24", src_colorspace=space).to_ndarray()
    assert np.abs(back.astype(int) - color).max() <= 4


def test_a_cover_is_not_the_clip(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 128, 128, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        clip = container.add_stream("mpeg4", rate=25)
        clip.height, clip.width, clip.pix_fmt = 64, 96, "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(colored(128, 128, (255, 0, 0)), format="rgb24")))
        for _ in range(5):
            container.mux(clip.encode(av.VideoFrame.from_ndarray(colored(64, 96, (0, 90, 0)), format="rgb24")))
        for stream in (cover, clip):
            container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    video = VideoImages(path)
    assert len(video.frame_names) == 5
    assert video.image(0).shape == (64, 96, 3)


def test_a_size_that_changes_is_said_before_work_begins(tmp_path):
    parts = []
    for name, size in (("a", (64, 64)), ("b", (32, 32))):
        path = tmp_path / f"{name}.mpg"
        with av.open(str(path), "w", format="mpeg1video") as container:
            stream = container.add_stream("mpeg1video", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(colored(*size, (0, 90, 0)), format="rgb24")))
            container.mux(stream.encode(None))
        parts.append(path.read_bytes())
    (tmp_path / "both.mpg").write_bytes(b"".join(parts))
    with pytest.raises(DataError, match=r"both.mpg is 32x32 pixels but the frames before it are 64x64: cut the video"):
        VideoImages(tmp_path / "both.mpg")
