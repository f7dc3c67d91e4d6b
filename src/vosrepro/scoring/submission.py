"""Masks for a challenge server: everything that it would reject, found before the upload; and the zip.

Sources: davisvideochallenge/davis2017-evaluation: evaluation_codalab.py; davisvideochallenge.org and
youtube-vos.org, submission pages. The YouTube-VOS server's program is private; its layout is the one in use.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vosrepro.base.errors import ConfigError, DataError, ProtocolError
from vosrepro.base.files import atomic, file_digest, read_json
from vosrepro.base.names import frame_files
from vosrepro.scoring.counting.packing import VOID, labels_in
from vosrepro.scoring.counting.png import LabelImage, Malformed, decode
from vosrepro.scoring.counting.trees import FolderTree, ZipTree, open_tree

Server = Literal["davis", "youtube"]
Level = Literal["error", "warning"]
_PREFIX: dict[Server, str] = {"davis": "", "youtube": "Annotations/"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same masks give the same zip


class ExpectedMasks(NamedTuple):
    """What one sequence of a submission must hold.

    Attributes:
        frames: names of all frames.
        starts: object id -> frame in which its mask is given.
        given: frame -> PNG with the masks given there.
        optional_frames: frames that the server does not read; DAVIS: the first and the last.
    """

    frames: tuple[str, ...]
    starts: Mapping[int, str]
    given: Mapping[str, Path]
    optional_frames: frozenset[str] = frozenset()


class Finding(NamedTuple):
    """One thing that is wrong ("error") or worth a look ("warning")."""

    level: Level
    sequence: str
    frame: str
    message: str

    def __str__(self) -> str:
        where = "/".join(part for part in (self.sequence, self.frame) if part)
        return f"{self.level}: {where + ': ' if where else ''}{self.message}"


class SubmissionReport(NamedTuple):
    """Outcome of a check.

    Attributes:
        findings: errors first.
        sequences: number of sequences looked for.
        files: number of masks that were read.
        bytes: their size.
        digest: SHA-256 over names and contents of all masks, in order.
    """

    findings: tuple[Finding, ...]
    sequences: int
    files: int
    bytes: int
    digest: str

    @property
    def passed(self) -> bool:
        """Whether there is no error."""
        return not any(finding.level == "error" for finding in self.findings)


def expect_davis(root: Path | str, *, split: str = "test-dev") -> dict[str, ExpectedMasks]:
    """What DAVIS 2017 wants, from the archive's lists, images and first annotations.

    Raises:
        DataError: if the archive is incomplete.
    """
    from vosrepro.scoring.counting.layout import read_sequence_list

    root = Path(root)
    expected = {}
    for name in read_sequence_list(root / "ImageSets" / "2017" / f"{split}.txt"):
        frames = _frames(root / "JPEGImages" / "480p" / name)
        if not frames:
            raise DataError(f"{root}/JPEGImages/480p/{name} holds no image: unzip the {split} archive")
        mask = root / "Annotations" / "480p" / name / f"{frames[0]}.png"
        starts = dict.fromkeys(range(1, max(_labels(mask), default=0) + 1), frames[0])
        unread = frozenset((frames[0], frames[-1]))
        expected[name] = ExpectedMasks(tuple(frames), starts, {frames[0]: mask}, unread)
    return expected


def expect_youtube(root: Path | str) -> dict[str, ExpectedMasks]:
    """What YouTube-VOS wants, from `root` = .../valid with JPEGImages, Annotations and meta.json.

    Raises:
        DataError: if the archive is incomplete.
    """
    root = Path(root)
    document = read_json(root / "meta.json")
    try:
        videos = {
            name: {int(k): str(o["frames"][0]) for k, o in video["objects"].items()}
            for name, video in document["videos"].items()
        }
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise DataError(f"{root}/meta.json is not one of YouTube-VOS ({error!r})") from error
    expected = {}
    for name, starts in sorted(videos.items()):
        frames = _frames(root / "JPEGImages" / name)
        if not frames:
            raise DataError(f"{root}/JPEGImages/{name} holds no image: unzip the archive again")
        absent = [frame for frame in starts.values() if frame not in frames]
        if absent:
            raise DataError(f"{root}/JPEGImages/{name}/{absent[0]}.jpg is missing, where meta.json begins an object")
        frames = frames[min(map(frames.index, starts.values()), default=0) :]
        given = {f: root / "Annotations" / name / f"{f}.png" for f in set(starts.values())}
        expected[name] = ExpectedMasks(tuple(frames), starts, given)
    return expected


class Served(NamedTuple):
    """Benchmarks that one challenge server scores.

    Attributes:
        prefix: how their names begin.
        server: whose layout a zip must have.
        folder: below that of the data set: where `expect` looks.
        expect: what the server wants, from that folder.
    """

    prefix: str
    server: Server
    folder: str
    expect: Callable[[Path], dict[str, ExpectedMasks]]


SERVED = (
    Served("davis17-testdev", "davis", ".", partial(expect_davis, split="test-dev")),
    Served("davis17-challenge", "davis", ".", partial(expect_davis, split="test-challenge")),
    Served("ytvos", "youtube", "valid", expect_youtube),
)


def served(benchmark: str) -> Served:
    """The server of a benchmark.

    Raises:
        ConfigError: if there is none.
    """
    for place in SERVED:
        if benchmark.startswith(place.prefix):
            return place
    names = ", ".join(place.prefix for place in SERVED[:-1])
    raise ConfigError(f"no server takes masks of the benchmark '{benchmark}': give {names}, ytvos18-val or ytvos19-val")


def check_submission(masks: Path | str, expected: Mapping[str, ExpectedMasks], server: Server) -> SubmissionReport:
    """Compare a folder or a zip of masks with what the server wants.

    Args:
        masks: folder of sequence folders, or a zip in the server's layout.
        expected: from `expect_davis` or `expect_youtube`.
        server: whose layout a zip must have.

    Raises:
        DataError: if there is no such folder or zip, or it cannot be read at all.
    """
    findings: list[Finding] = []
    tree = open_tree(masks)
    stray: Level = "error" if isinstance(tree, ZipTree) else "warning"  # a folder is packed without
    if isinstance(tree, ZipTree):
        findings += _check_zip_layout(Path(masks), server)
        if _PREFIX[server]:
            tree = ZipTree(masks, _PREFIX[server].rstrip("/"))
    present = set(tree.folders())
    for name in sorted(present - set(expected)):
        findings.append(Finding(stray, name, "", "is not a sequence of the list: leave it out"))
    digest, files, size = hashlib.sha256(), 0, 0
    for name, wanted in expected.items():
        if name not in present:
            findings.append(Finding("error", name, "", "is missing"))
            continue
        seen: set[int] = set()
        findings += _check_frame_set(name, wanted, tree.frames(name), stray)
        size_px = _size(wanted)
        for frame in tree.frames(name):
            data = tree.data(name, frame)
            digest.update(f"{name}/{frame}.png {len(data)}\n".encode() + data)
            files, size = files + 1, size + len(data)
            if frame in wanted.frames:
                findings += _check_mask(name, frame, data, wanted, size_px, seen)
        for object_id in sorted(set(wanted.starts) - seen):
            message = f"object {object_id} is in no predicted frame"
            findings.append(Finding("warning", name, "", message))
    findings.sort(key=lambda finding: finding.level)
    return SubmissionReport(tuple(findings), len(expected), files, size, digest.hexdigest())


def write_zip(
    masks: Path | str, target: Path | str, expected: Mapping[str, ExpectedMasks], server: Server
) -> dict[str, Any]:
    """Pack a folder of masks for the server; frames that are not expected are left out.

    Two calls on the same masks write the same bytes.

    Returns:
        Manifest: "zip", "bytes", "sha256", "sequences", "files", "masks_sha256".

    Raises:
        ProtocolError: if the check finds an error; names the first ones.
    """
    tree = FolderTree(masks)
    report = check_submission(masks, expected, server)
    errors = [f for f in report.findings if f.level == "error"]
    if errors:
        shown = "; ".join(str(f).removeprefix("error: ") for f in errors[:3])
        raise ProtocolError(
            f"{masks} is not fit for upload: {shown}"
            + (f"; and {len(errors) - 3} more" if len(errors) > 3 else "")
            + ": see `vosrepro submit check`"
        )
    files = 0
    with atomic(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, wanted in expected.items():
            for frame in wanted.frames:
                if frame not in tree.frames(name):
                    continue
                info = zipfile.ZipInfo(f"{_PREFIX[server]}{name}/{frame}.png", _EPOCH)
                info.external_attr = 0o644 << 16
                archive.writestr(info, tree.data(name, frame))
                files += 1
    return {
        "zip": str(target),
        "bytes": Path(target).stat().st_size,
        "sha256": file_digest(target),
        "sequences": len(expected),
        "files": files,
        "masks_sha256": report.digest,
    }


def _check_zip_layout(path: Path, server: Server) -> Iterator[Finding]:
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist()]
    tops = {name.split("/")[0] for name in names}
    if server == "davis" and len(tops) == 1:
        yield Finding("error", "", "", f"the zip wraps everything in '{min(tops)}': zip the sequence folders")
    if server == "youtube" and tops != {"Annotations"}:
        yield Finding("error", "", "", "the zip must hold one folder 'Annotations' and nothing else")
    unwanted = [n for n in names if not n.endswith((".png", "/")) or "__MACOSX" in n]
    if unwanted:
        message = f"the zip holds {len(unwanted)} other file(s), such as {unwanted[0]}: remove them"
        yield Finding("error", "", "", message)


def _check_frame_set(name: str, wanted: ExpectedMasks, present: Sequence[str], stray: Level) -> Iterator[Finding]:
    for frame in wanted.frames:
        if frame not in present:
            level = "warning" if frame in wanted.optional_frames else "error"
            yield Finding(level, name, frame, "is missing")
    for frame in present:
        if frame not in wanted.frames:
            yield Finding(stray, name, frame, "is not a frame that the server wants: leave it out")


def _check_mask(
    name: str,
    frame: str,
    data: bytes,
    wanted: ExpectedMasks,
    size_px: tuple[int, int] | None,
    seen: set[int],
) -> Iterator[Finding]:
    """Format, size, ids, and equality with the given masks; adds the ids found to `seen`."""
    try:
        image = decode(data)
    except Malformed as error:
        yield Finding("error", name, frame, str(error))
        return
    if data[24] != 8:
        yield Finding("error", name, frame, f"has {data[24]} bits per pixel: write 8-bit palette PNG")
    labels = image.array()
    if size_px is not None and image[:2] != size_px:
        message = f"is {image.width} x {image.height}, not {size_px[1]} x {size_px[0]} pixels"
        yield Finding("error", name, frame, message)
        return
    for label in labels_in(image):
        if label not in wanted.starts:
            known = ", ".join(map(str, wanted.starts)) or "none"
            yield Finding("error", name, frame, f"holds id {label}; the objects are {known}")
        elif wanted.frames.index(frame) < wanted.frames.index(wanted.starts[label]):
            message = f"holds id {label}, which only begins on frame {wanted.starts[label]}"
            yield Finding("error", name, frame, message)
        elif frame != wanted.starts[label]:
            seen.add(label)
    if frame in wanted.given:
        yield from _check_given(name, frame, labels, wanted)


def _check_given(name: str, frame: str, labels: np.ndarray, wanted: ExpectedMasks) -> Iterator[Finding]:
    given = _given(wanted.given[frame]).array()
    for object_id in [k for k, start in wanted.starts.items() if start == frame]:
        if not np.array_equal(labels == object_id, given == object_id):
            message = f"object {object_id} differs from its given mask"
            yield Finding("warning", name, frame, message)


def _size(wanted: ExpectedMasks) -> tuple[int, int] | None:
    """Height and width of the given masks."""
    for path in wanted.given.values():
        return _given(path)[:2]
    return None


def _frames(folder: Path) -> list[str]:
    return [name.rpartition(".")[0] for name in frame_files(folder, (".jpg", ".jpeg"))] if folder.is_dir() else []


def _labels(path: Path) -> list[int]:
    return [label for label in labels_in(_given(path)) if label != VOID]


def _given(path: Path) -> LabelImage:
    try:
        return decode(_bytes(path))
    except Malformed as error:
        raise DataError(f"{path}, a given mask, cannot be read: {error}") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} is missing: unzip the data set's archive again") from error
