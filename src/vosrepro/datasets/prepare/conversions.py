"""Smaller copies of training sets, as the seeds made them; finished files are kept, so that a run goes on.

Source: hkchengrex/Mask-Propagation: scripts/resize_youtube.py, scripts/resize_length.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from vosrepro.base.errors import DataError
from vosrepro.base.files import atomic
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.base.names import listed, visible
from vosrepro.datasets.sets.folders import set_folder
from vosrepro.datasets.sets.video import IMAGES, list_videos, read_frame
from vosrepro.study.params import DataParams

#: Short sides of train_480p and of BIG_small and HRSOD_small.
YOUTUBE_PX, STATIC_PX = 480, 384
_QUALITY = 75  # Pillow's default, which upstream left


def usual_places(kind: str, data: DataParams) -> list[tuple[Path, Path]]:
    """Sources and targets of a conversion ("youtube-480p", "static-384") below a data root.

    Raises:
        DataError: if there is nothing to convert.
    """
    if kind == "static-pairs":
        raise DataError(f"say what to convert: vosrepro data convert {kind} SOURCE TARGET")
    if kind == "youtube-480p":
        folder = set_folder("ytvos", data)
        pairs = [(folder / "train", folder / "train_480p")]
    else:
        folder = set_folder("static", data)
        pairs = [(folder / name, folder / f"{name}_small") for name in ("BIG", "HRSOD")]
    there = [(source, target) for source, target in pairs if source.is_dir()]
    if not there:
        wanted = " or ".join(str(source) for source, _ in pairs)
        raise DataError(f"there is nothing to convert: no folder {wanted}; name SOURCE and TARGET")
    return there


def resize_youtube(source: Path, target: Path, *, processes: int = 1) -> int:
    """Copies of YouTube-VOS' train with a short side of 480 px: bicubic JPEGs, nearest label PNGs.

    Smaller videos are enlarged, as upstream does. Both sides are `int(side * 480 / short side)`.

    Args:
        source: YouTube/train.
        target: YouTube/train_480p.
        processes: how many share the work.

    Returns:
        The number of files in the target.

    Raises:
        DataError: if a file cannot be read or written.
    """
    names = list_videos(source / "JPEGImages")
    work = partial(_resize_video, source, target)
    if processes > 1:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            return sum(pool.map(work, names))
    return sum(map(work, names))


def shrink_static(source: Path, target: Path) -> int:
    """Copies of large images and their masks with a short side of 384 px, averaged over areas.

    Args:
        source: a flat folder of x.jpg (or .png) with masks x.png, x_gt.png or x_mask.png.
        target: for instance static/BIG_small.

    Returns:
        The number of images.

    Raises:
        DataError: if an image lacks its mask or cannot be read.
    """
    pairs = list(_pairs(source))
    if not pairs:
        raise DataError(f"{source} has no image with a mask beside it")
    for image, mask in pairs:
        stem = target / image.stem.removesuffix("_im")
        _made(stem.with_suffix(".jpg"), partial(_shrink, image, color=True))
        _made(stem.with_suffix(".png"), partial(_shrink, mask, color=False))
    return len(pairs)


def scaled(width: int, height: int, short_px: int) -> tuple[int, int]:
    """Width and height with a short side of `short_px`, both rounded down."""
    short = min(width, height)
    return int(width * short_px / short), int(height * short_px / short)


def _resize_video(source: Path, target: Path, name: str) -> int:
    from PIL import Image

    count = 0
    images, masks = source / "JPEGImages" / name, source / "Annotations" / name
    for path in (images / file for file in listed(images, IMAGES)):

        def frame(temporary: Path, path: Path = path) -> None:
            image = Image.fromarray(read_frame(path))
            size = scaled(image.width, image.height, YOUTUBE_PX)
            image.resize(size, Image.Resampling.BICUBIC).save(temporary, "JPEG", quality=_QUALITY)

        count += _made(target / "JPEGImages" / name / path.name, frame)
    for path in (masks / file for file in listed(masks, (".png",))):
        place = target / "Annotations" / name / path.name
        if not place.is_file():
            labels = Image.fromarray(read_labels(path))
            size = scaled(labels.width, labels.height, YOUTUBE_PX)
            import numpy as np

            write_labels(place, np.asarray(labels.resize(size, Image.Resampling.NEAREST)))
        count += 1
    return count


def gather_pairs(source: Path, target: Path) -> int:
    """A flat folder of x.jpg and x.png from official archives with images and masks in folders of their own.

    DUTS, ECSSD and HRSOD come so. JPEGs and grey PNGs are copied byte for byte, others written anew.

    Args:
        source: what the archives hold, however deep; a mask has the stem of its image, perhaps with _gt or _mask.
        target: for instance static/DUTS-TR.

    Returns:
        The number of images.

    Raises:
        DataError: if an image lacks its mask, two images have one name, or a file cannot be read.
    """
    try:
        files = sorted(p for p in source.rglob("*") if p.is_file() and visible(p.name))
    except OSError as error:
        raise DataError(f"the folder {source} cannot be read") from error
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in files:
        if path.suffix.lower() in IMAGES or path.stem.endswith("_im"):
            stem, kind = path.stem.removesuffix("_im"), images
        elif path.suffix.lower() == ".png":
            stem, kind = path.stem.removesuffix("_gt").removesuffix("_mask"), masks
        else:
            continue
        if stem in kind:
            raise DataError(
                f"{kind[stem]} and {path} have one name: convert one half of a set at a time (FSS-1000 needs "
                "no conversion, link its folder of classes as static/fss)"
            )
        kind[stem] = path
    lonely = sorted(set(images) - set(masks))
    if lonely or not images:
        what = f"a mask for {images[lonely[0]]}" if lonely else "any JPEG"
        raise DataError(f"{source} does not hold {what}: extract images and masks into it")
    for stem, image in images.items():
        _made(target / f"{stem}.jpg", partial(_plain, image, color=True))
        _made(target / f"{stem}.png", partial(_plain, masks[stem], color=False))
    return len(images)


def _plain(path: Path, temporary: Path, *, color: bool) -> None:
    from PIL import Image

    image = read_frame(path)  # refuses what is truncated
    with Image.open(path) as opened:
        kept = path.suffix.lower() in IMAGES if color else opened.mode == "L"
    if kept:
        temporary.write_bytes(path.read_bytes())
    elif color:
        Image.fromarray(image).save(temporary, "JPEG", quality=95)
    else:
        Image.fromarray(image[..., 0]).save(temporary, "PNG")


def _pairs(source: Path) -> Iterator[tuple[Path, Path]]:
    """Images with their masks; BIG writes x_im.png and x_gt.png."""
    files = [source / name for name in listed(source, (*IMAGES, ".png"))]
    by_name = {p.name: p for p in files}
    for path in files:
        stem = path.stem.removesuffix("_im")
        is_image = path.suffix.lower() in IMAGES or path.stem.endswith("_im")
        if not is_image or path.stem.endswith(("_gt", "_mask")):
            continue
        names = (f"{stem}.png", f"{stem}_gt.png", f"{stem}_mask.png")
        mask = next((by_name[n] for n in names if n in by_name and by_name[n] != path), None)
        if mask is None:
            raise DataError(f"{source / names[0]} is missing beside {path.name}: restore the mask")
        yield path, mask


def _shrink(path: Path, temporary: Path, *, color: bool) -> None:
    import cv2

    image = read_frame(path)
    size = scaled(image.shape[1], image.shape[0], STATIC_PX)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    picture = small[..., ::-1] if color else small[..., 0]
    done, data = cv2.imencode(".jpg" if color else ".png", picture)
    if not done:  # pragma: no cover  (only a broken OpenCV build)
        raise DataError(f"{path} cannot be encoded")
    temporary.write_bytes(data.tobytes())


def _made(target: Path, write: Callable[[Path], None]) -> int:
    if not target.is_file():
        with atomic(target) as temporary:
            write(temporary)
    return 1
