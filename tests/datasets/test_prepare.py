"""Real data sets from archives and folders: miniatures of every official layout, and their broken variants."""

from __future__ import annotations

import errno
import http.server
import io
import json
import shutil
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from PIL import Image

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.labels import read_labels
from vosrepro.cli import main
from vosrepro.datasets import verify
from vosrepro.datasets.generated.encode import label_png
from vosrepro.datasets.prepare import inventory
from vosrepro.datasets.prepare import prepare as prepare_module
from vosrepro.datasets.prepare.archives import extract, find_root
from vosrepro.datasets.prepare.conversions import gather_pairs, resize_youtube, shrink_static
from vosrepro.datasets.prepare.downloads import download, file_md5
from vosrepro.datasets.sets.youtube import read_meta
from vosrepro.study.params import DataParams

prepare = prepare_module.prepare_set


def zipped(source: Path, target: Path, prefix: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            archive.write(path, f"{prefix}{path.relative_to(source).as_posix()}")
    return target


@pytest.fixture
def root(tmp_path: Path) -> DataParams:
    return DataParams(root=str(tmp_path / "real"))


# ----------------------------------------------------------------------------- official layouts


@pytest.mark.parametrize("prefix", ["DAVIS/", "", "download/DAVIS-2017/DAVIS/"])
def test_an_official_archive_is_put_in_place_verified_and_described(prefix, small_root, root, tmp_path):
    archive = zipped(small_root / "DAVIS/2017/trainval", tmp_path / "DAVIS-2017-trainval-480p.zip", prefix)
    with zipfile.ZipFile(archive, "a") as more:  # what a Mac adds
        more.writestr("__MACOSX/DAVIS/._JPEGImages", b"x")
        more.writestr(f"{prefix}JPEGImages/480p/val-04/._00000.jpg", b"x")
    manifest = prepare("davis2017", root, [archive])
    assert set(manifest["parts"]) == {"davis17-train", "davis17-val"}
    written = json.loads((Path(root.root) / "manifests/davis2017.json").read_text())
    assert written["archives"][0]["sha256"]
    assert written["digest"] == verify(DataParams(root=str(small_root)), ["davis2017"])["digest"]
    assert not list(Path(root.root).rglob("*.partial"))
    again = prepare("davis2017", root, [archive])  # in place already
    assert again["digest"] == manifest["digest"]


def test_every_set_has_a_preparation_and_every_preparation_a_folder():
    from vosrepro.datasets.sets.folders import SOURCES

    assert set(prepare_module.PREPARATIONS) == set(SOURCES)


def test_archives_in_downloads_are_found_and_a_part_of_a_set_is_enough(small_root, root, tmp_path):
    downloads = Path(root.root) / "downloads"
    zipped(small_root / "YouTube/valid", downloads / "valid.zip", "valid/")
    assert set(prepare("ytvos", root)["parts"]) == {"ytvos-valid"}
    zipped(small_root / "YouTube/train", downloads / "train.zip", "train/")
    frames = small_root / "YouTube/all_frames/valid_all_frames"
    zipped(frames, downloads / "valid_all_frames.zip", "valid/")
    manifest = prepare("ytvos", root, jjval=small_root / "YouTube/train/ImageSets/jjval.txt")
    assert set(manifest["parts"]) == {"ytvos-train", "ytvos-valid", "ytvos-valid-all"}
    assert "ytvos-jjval" in verify(root)["parts"]
    bad = tmp_path / "list.txt"
    bad.write_text("ffffffffff\n")
    with pytest.raises(DataError, match="names 1 videos that .*train lacks, first ffffffffff"):
        prepare("ytvos", root, jjval=bad)


@pytest.mark.parametrize(
    ("name", "inside", "archive", "prefix"),
    [
        ("davis2016", "DAVIS/2016", "DAVIS-data.zip", "DAVIS/"),
        ("davis2017-testdev", "DAVIS/2017/test-dev", "DAVIS-2017-test-dev-480p.zip", "DAVIS/"),
        ("static", "static", "static_data.zip", "static/"),
    ],
)
def test_other_official_archives(name, inside, archive, prefix, small_root, root, tmp_path):
    manifest = prepare(name, root, [zipped(small_root / inside, tmp_path / archive, prefix)])
    assert manifest["files"] > 0


def test_segments_are_merged_and_a_known_digest_is_checked(small_root, tmp_path, root):
    for letter, video in (("a", "video-000"), ("b", "video-999")):
        with tarfile.open(tmp_path / f"BL30K_{letter}.tar", "w") as archive:
            for kind in ("JPEGImages", "Annotations"):
                archive.add(small_root / "BL30K" / kind / "video-000", f"BL30K/{kind}/{video}")
        target = tmp_path / "BL30K"
        extract(
            tmp_path / f"BL30K_{letter}.tar",
            target,
            needs=("JPEGImages", "Annotations"),
            merge=True,
        )
    assert sorted(p.name for p in (tmp_path / "BL30K/JPEGImages").iterdir()) == [
        "video-000",
        "video-999",
    ]
    with pytest.raises(DataError, match="BL30K_a.tar is damaged: its MD5 is not 35312550b9a7"):
        prepare("bl30k", root, [tmp_path / "BL30K_a.tar"])


def test_imagenet_archives_are_checked_and_linked_and_the_kit_is_extracted(root, tmp_path, monkeypatch):
    known = prepare_module.PREPARATIONS["imagenet"]
    tars = [tar_with(tmp_path / a.names[0], entry("x.JPEG")) for a in known[:2]]
    kit = tar_with(tmp_path / known[2].names[0], entry("ILSVRC2012_devkit_t12/data/truth.txt"))
    with pytest.raises(DataError, match="img_train.tar is damaged: its MD5 is not 1d675b47"):
        prepare("imagenet", root, tars)
    plain = tuple(replace(archive, md5=()) for archive in known)
    monkeypatch.setitem(prepare_module.PREPARATIONS, "imagenet", plain)
    checked = []
    monkeypatch.setattr(
        "vosrepro.datasets.prepare.verification.verify",
        lambda data, names, **_: checked.append(names) or {},
    )
    for _ in range(2):
        prepare("imagenet", root, [*tars, kit])
    assert checked[-1] == ["imagenet"]
    folder = Path(root.root) / "ImageNet"
    assert (folder / "ILSVRC2012_img_val.tar").resolve() == tars[1]
    assert (folder / "ILSVRC2012_devkit_t12/data/truth.txt").is_file()


# ----------------------------------------------------------------------------- folders


def test_a_folder_that_is_there_is_linked_or_copied_however_deep(small_root, root, tmp_path):
    shutil.copytree(small_root / "DAVIS/2016", tmp_path / "mine/DAVIS-data/DAVIS")
    prepare("davis2016", root, [tmp_path / "mine"])
    place = Path(root.root) / "DAVIS/2016"
    assert place.is_symlink()
    assert (place / "ImageSets").is_dir()
    prepare("davis2016", root, [tmp_path / "mine"])  # the same again
    with pytest.raises(DataError, match="DAVIS/2016 exists already: remove it"):
        prepare("davis2016", root, [small_root / "DAVIS/2016"])
    place.unlink()
    prepare("davis2016", root, [tmp_path / "mine"], copy=True)
    assert not place.is_symlink()


def test_the_right_one_of_two_sets_in_a_folder_is_linked(small_root, root):
    prepare("davis2017", root, [small_root / "DAVIS"])  # which holds 2016 too
    place = Path(root.root) / "DAVIS/2017/trainval"
    assert place.resolve() == (small_root / "DAVIS/2017/trainval").resolve()


def test_a_link_to_a_folder_that_lacks_something_is_taken_back(small_root, root, tmp_path):
    shutil.copytree(small_root / "DAVIS/2017/trainval", tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine/ImageSets")
    for _ in range(2):
        with pytest.raises(DataError, match="its ImageSets folder included"):
            prepare("davis2017", root, [tmp_path / "mine"])
    assert not (Path(root.root) / "DAVIS/2017/trainval").is_symlink()
    shutil.copytree(small_root / "DAVIS/2017/trainval/ImageSets", tmp_path / "mine/ImageSets")
    prepare("davis2017", root, [tmp_path / "mine"])


def test_a_wrong_folder_and_a_missing_source_are_named(small_root, root, tmp_path):
    with pytest.raises(DataError, match="does not hold 'davis2017': it has BIG_small, .*, but nowhere"):
        prepare("davis2017", root, [small_root / "static"])
    with pytest.raises(DataError, match="there is no archive or folder"):
        prepare("davis2017", root, [tmp_path / "nothing.zip"])
    with pytest.raises(DataError, match="give one folder, or archives"):
        prepare("davis2017", root, [small_root, small_root])
    with pytest.raises(ConfigError, match="did you mean 'davis2017'"):
        prepare("davis2077", root)


def test_the_instructions_name_the_archive_the_place_and_the_command(root):
    with pytest.raises(DataError) as caught:
        prepare("davis2017", root)
    text = str(caught.value)
    assert "DAVIS-2017-trainval-480p.zip (https://data.vision.ee.ethz.ch/" in text
    assert "real/downloads or add --download" in text
    with pytest.raises(DataError, match="log in at youtube-vos.org") as caught:
        prepare("ytvos19", root)
    assert "2019 version" in str(caught.value)
    assert "--download" not in str(caught.value)
    with pytest.raises(DataError, match="image-net.org"):
        prepare("imagenet", root)
    with pytest.raises(DataError, match="put the videos at .*Alibaba as JPEGImages"):
        prepare("ali21", root)


# ----------------------------------------------------------------------------- bad archives


def test_a_wrong_archive_says_what_it_holds(small_root, root, tmp_path):
    archive = zipped(small_root / "DAVIS/2016", tmp_path / "DAVIS-2017-trainval-480p.zip", "DAVIS/")
    says = r"DAVIS-2017-trainval-480p\.zip is another archive: it holds DAVIS/, but nowhere .*test-dev\.txt"
    with pytest.raises(DataError, match=says):
        prepare("davis2017-testdev", root, [archive])
    assert not (Path(root.root) / "DAVIS/2017/test-dev").exists()


def test_a_half_extracted_target_is_not_overwritten(small_root, root, tmp_path):
    archive = zipped(small_root / "DAVIS/2017/trainval", tmp_path / "DAVIS-2017-trainval-480p.zip", "DAVIS/")
    place = Path(root.root) / "DAVIS/2017/trainval"
    (place / "JPEGImages/480p").mkdir(parents=True)
    with pytest.raises(DataError, match="trainval exists but has no .*, as a half-extracted archive: remove"):
        prepare("davis2017", root, [archive])
    assert (place / "JPEGImages/480p").is_dir()


def test_lists_left_out_of_an_archive_are_missed(small_root, root, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(small_root / "DAVIS/2017/trainval", tree)
    shutil.rmtree(tree / "ImageSets")
    archive = zipped(tree, tmp_path / "DAVIS-2017-trainval-480p.zip", "DAVIS/")
    with pytest.raises(DataError, match="nowhere .*ImageSets/2017/train.txt"):
        prepare("davis2017", root, [archive])


def tar_with(path: Path, *infos: tarfile.TarInfo, data: bytes = b"12345") -> Path:
    with tarfile.open(path, "w") as archive:
        for info in infos:
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (entry("../escaped.txt"), r"holds '../escaped.txt', which would be written outside"),
        (entry("a/../../escaped.txt"), "which would be written outside"),
        (entry("/tmp/escaped.txt"), "which would be written outside"),
        (entry("C:/escaped.txt"), "which would be written outside"),
        (entry("a\\..\\..\\escaped.txt"), "which would be written outside"),
        (entry("link", tarfile.SYMTYPE, "/etc"), "holds the link link, which no data set needs"),
        (entry("link", tarfile.LNKTYPE, "good/a"), "holds the link link"),
        (entry("pipe", tarfile.FIFOTYPE), "holds the special file pipe"),
        (entry("disk", tarfile.BLKTYPE), "holds the special file disk"),
        (entry("good/a"), "holds good/a twice"),
    ],
)
def test_a_dangerous_member_is_refused_and_nothing_is_left(member, sentence, tmp_path):
    archive = tar_with(tmp_path / "bad.tar", entry("good/a"), member)
    inner = tmp_path / "deep/inner"
    inner.mkdir(parents=True)
    with pytest.raises(DataError, match=sentence):
        extract(archive, inner / "set", needs=("a",))
    assert list(inner.iterdir()) == []
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not Path("/tmp/escaped.txt").exists()


def test_links_in_zips_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="holds the link a"):
        extract(tmp_path / "bad.zip", tmp_path / "set", needs=("a",))


def test_a_bomb_is_stopped_while_it_unpacks(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * 5_000_000)
    with pytest.raises(DataError, match="unpacks to more than 1.0 MB"):
        extract(tmp_path / "bomb.zip", tmp_path / "set", needs=("a",), max_bytes=1_000_000)
    assert [p.name for p in tmp_path.iterdir()] == ["bomb.zip"]


def test_damaged_archives_and_web_pages_are_told_apart(small_root, tmp_path):
    whole = zipped(small_root / "DAVIS/2016", tmp_path / "whole.zip", "")
    data = whole.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 255
    (tmp_path / "flipped.zip").write_bytes(bytes(flipped))
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as archive:
        archive.add(small_root / "DAVIS/2016", "DAVIS")
    cut = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "page.zip").write_text("  <!doctype html> Quota exceeded")
    for name in ("cut.zip", "flipped.zip", "cut.tar.gz"):
        with pytest.raises(DataError, match=f"{name} is damaged or incomplete .*: download it again"):
            extract(tmp_path / name, tmp_path / "set", needs=("ImageSets",))
    with pytest.raises(DataError, match="page.zip is a web page, not an archive: download it again"):
        extract(tmp_path / "page.zip", tmp_path / "set", needs=("ImageSets",))
    assert not (tmp_path / "set").exists()


def test_a_name_that_is_not_utf8_is_extracted(tmp_path):
    name = b"JPEGImages/b\xe4r/00000.jpg".decode("utf-8", "surrogateescape")
    archive = tar_with(tmp_path / "x.tar", entry(name))
    assert extract(archive, tmp_path / "set", needs=("JPEGImages",)) == 1
    assert (tmp_path / "set" / name).is_file()


def test_a_target_that_cannot_be_written_is_one_sentence(small_root, root, tmp_path, monkeypatch, capsys):
    archive = zipped(small_root / "DAVIS/2016", tmp_path / "DAVIS-data.zip", "DAVIS/")
    real = Path.mkdir

    def refuse(self, *arguments, **options):
        if str(self).startswith(root.root):
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["data", "prepare", "davis2016", str(archive), "--root", root.root]) == 2
    error = capsys.readouterr().err
    assert "DAVIS/2016 cannot be written (Read-only file system): free space or fix permissions" in error
    assert "Traceback" not in error
    with pytest.raises(DataError, match="cannot be written"):
        prepare("davis2016", root, [small_root / "DAVIS/2016"])


# ----------------------------------------------------------------------------- broken sets


def test_the_other_years_validation_set_is_noticed(small_root, tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "_VALID_VIDEOS", {1: "ytvos"})
    shutil.copytree(small_root / "YouTube", tmp_path / "YouTube2019")
    data = DataParams(root=str(tmp_path))
    with pytest.raises(
        DataError,
        match=r"valid holds 1 videos as YouTube-VOS 2018 does, but 2019 is "
        r"meant: extract valid.zip of 2019 there",
    ):
        verify(data, ["ytvos19-valid"])
    monkeypatch.setattr(inventory, "_VALID_VIDEOS", {1: "ytvos19"})
    assert verify(data, ["ytvos19"])["parts"]["ytvos19-valid-all"]["videos"] == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"videos": {"a": {"objects": {"1": {"frames": ["0"]}, "1": {"frames": ["5"]}}}}}',
        '{"videos": {"a": {"objects": {"1": {"frames": ["0"]}, "01": {"frames": ["5"]}}}}}',
        '{"videos": {"a": {"objects": {}}, "a": {"objects": {}}}}',
    ],
)
def test_duplicate_ids_in_meta_are_refused(text, tmp_path):
    path = tmp_path / "meta.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"is not a meta.json of YouTube-VOS .*'(1|a)' is given twice"):
        read_meta(path)


def test_grey_frames_and_masks_that_are_empty_in_between_are_sound(small_root, tmp_path):
    shutil.copytree(small_root, tmp_path / "root")
    base = tmp_path / "root/DAVIS/2017/trainval"
    image = base / "JPEGImages/480p/val-04/00003.jpg"
    grey = Image.open(image).convert("L")
    grey.save(image)
    path = base / "Annotations/480p/val-04/00007.png"
    path.write_bytes(label_png(np.zeros(read_labels(path).shape, np.uint8)))
    verify(DataParams(root=str(tmp_path / "root")), ["davis17-val"])


# ----------------------------------------------------------------------------- conversions


def test_youtube_copies_have_a_short_side_of_480_and_keep_their_labels(small_root, tmp_path):
    source, target = small_root / "YouTube/train", tmp_path / "train_480p"
    count = resize_youtube(source, target)
    name = next(iter(sorted((source / "JPEGImages").iterdir()))).name
    before = Image.open(source / "JPEGImages" / name / "00000.jpg")
    after = Image.open(target / "JPEGImages" / name / "00000.jpg")
    scale = 480 / min(before.size)
    assert after.size == (int(before.width * scale), int(before.height * scale))
    mask = read_labels(target / "Annotations" / name / "00005.png")
    assert mask.shape == after.size[::-1]
    assert set(np.unique(mask)) == set(np.unique(read_labels(source / "Annotations" / name / "00005.png")))
    old = (target / "JPEGImages" / name / "00000.jpg").stat().st_mtime_ns
    (target / "JPEGImages" / name / "00005.jpg").unlink()
    assert resize_youtube(source, target) == count  # goes on
    assert (target / "JPEGImages" / name / "00000.jpg").stat().st_mtime_ns == old


def test_large_images_shrink_with_their_masks(tmp_path):
    source = tmp_path / "BIG"
    source.mkdir()
    cv2.imwrite(str(source / "x_im.png"), np.full((800, 1000, 3), 90, np.uint8))
    cv2.imwrite(str(source / "x_gt.png"), np.full((800, 1000), 255, np.uint8))
    cv2.imwrite(str(source / "y.jpg"), np.full((768, 900, 3), 90, np.uint8))
    cv2.imwrite(str(source / "y.png"), np.full((768, 900), 255, np.uint8))
    assert shrink_static(source, tmp_path / "BIG_small") == 2
    assert Image.open(tmp_path / "BIG_small/x.jpg").size == (480, 384)
    assert Image.open(tmp_path / "BIG_small/x.png").mode == "L"
    assert Image.open(tmp_path / "BIG_small/y.png").size == (450, 384)
    (source / "y.png").unlink()
    with pytest.raises(DataError, match="y.png is missing beside y.jpg"):
        shrink_static(source, tmp_path / "other")


def _pair_of_folders(source: Path, names: list[str]) -> None:
    for name in names:
        image, mask = (
            source / "DUTS-TR-Image" / f"{name}.jpg",
            source / "DUTS-TR-Mask" / f"{name}.png",
        )
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.full((20, 30, 3), 90, np.uint8))
        cv2.imwrite(str(mask), np.full((20, 30), 255, np.uint8))


def test_images_and_masks_of_separate_folders_become_pairs(tmp_path):
    _pair_of_folders(tmp_path / "DUTS", ["a", "b"])
    Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / "DUTS/DUTS-TR-Mask/b.png")  # a colored mask
    static = tmp_path / "real/static"
    call = ["data", "convert", "static-pairs", str(tmp_path / "DUTS"), str(static / "DUTS-TR")]
    assert main(call) == 0
    image = static / "DUTS-TR/a.jpg"
    assert image.read_bytes() == (tmp_path / "DUTS/DUTS-TR-Image/a.jpg").read_bytes()
    assert Image.open(static / "DUTS-TR/b.png").mode == "L"
    found = verify(DataParams(root=str(tmp_path / "real")), ["static"])["parts"]["static"]
    assert found["videos"] == 2


def test_pairs_that_do_not_fit_are_named(tmp_path, capsys):
    source = tmp_path / "DUTS"
    _pair_of_folders(source, ["a"])
    (source / "DUTS-TR-Mask/a.png").rename(source / "DUTS-TR-Mask/c.png")
    with pytest.raises(DataError, match=r"does not hold a mask for .*a\.jpg"):
        gather_pairs(source, tmp_path / "out")
    (source / "more").mkdir()
    shutil.copy(source / "DUTS-TR-Image/a.jpg", source / "more/a.jpg")
    with pytest.raises(DataError, match=r"more/a\.jpg have one name"):
        gather_pairs(source, tmp_path / "out")
    assert main(["data", "convert", "static-pairs"]) == 2
    assert "static-pairs SOURCE TARGET" in capsys.readouterr().err


# ----------------------------------------------------------------------------- downloads


class Server(http.server.BaseHTTPRequestHandler):
    content = bytes(range(256)) * 4000
    stop_after: int | None = None
    ranges = True
    kind = "application/zip"
    asked: ClassVar[list[str | None]] = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        body = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.stop_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.stop_after, Server.ranges, Server.kind, Server.asked = None, True, "application/zip", []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}/x.zip"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_goes_on(server, tmp_path, ranges):
    target = tmp_path / "downloads/x.zip"
    Server.stop_after, Server.ranges = 300_000, ranges
    with pytest.raises(DataError, match="cannot be downloaded .*: run again to go on"):
        download(server, target)
    assert not target.exists()
    Server.stop_after = None
    seen = []
    download(server, target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == Server.content
    assert Server.asked[1] == "bytes=300000-"
    assert seen[-1] == (len(Server.content), len(Server.content))
    assert download("http://127.0.0.1:9/never", target) == target  # there already


def test_a_wrong_file_is_not_kept_and_a_web_page_is_no_archive(server, tmp_path):
    target = tmp_path / "x.zip"
    with pytest.raises(DataError, match="instead of 00ff: it was removed, download it again"):
        download(server, target, md5="00ff")
    assert list(tmp_path.iterdir()) == []
    Server.kind = "text/html"
    with pytest.raises(DataError, match="sends a web page instead of the file"):
        download(server, target)
    with pytest.raises(DataError, match="cannot be downloaded .* put it at .*x.zip"):
        download("http://127.0.0.1:9/x.zip", target)
    (tmp_path / "a").write_bytes(b"abc")
    assert file_md5(tmp_path / "a") == "900150983cd24fb0d6963f7d28e17f72"


def test_prepare_downloads_what_has_an_address(server, small_root, root, tmp_path, monkeypatch):
    archive = zipped(small_root / "DAVIS/2016", tmp_path / "x.zip", "DAVIS/")
    monkeypatch.setattr(Server, "content", archive.read_bytes())
    known = prepare_module.PREPARATIONS["davis2016"][0]
    local = prepare_module.Archive(known.names, known.into, known.needs, known.parts, server)
    monkeypatch.setitem(prepare_module.PREPARATIONS, "davis2016", (local,))
    manifest = prepare("davis2016", root, fetch=True)
    assert manifest["archives"][0]["name"] == "DAVIS-data.zip"
    assert (Path(root.root) / "downloads/DAVIS-data.zip").is_file()


def test_the_command_prepares_verifies_and_converts(small_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "prepare", "ytvos", str(small_root / "YouTube")]) == 0
    assert "described in real/manifests/ytvos.json" in capsys.readouterr().out
    assert main(["data", "verify", "ytvos"]) == 0  # in real/, if nothing else is said
    assert "complete: real" in capsys.readouterr().out
    assert main(["data", "convert", "youtube-480p", "real/YouTube/train", "copies"]) == 0
    assert "copies: " in capsys.readouterr().out
    assert main(["data", "verify", "davis2017"]) == 2
    assert "data set 'davis2017' is missing: there is no folder real/DAVIS" in capsys.readouterr().err


# ----------------------------------------------------------------------------- real data, if present


@pytest.mark.data
def test_real_folders_are_linked_and_verified(real_data, root, tmp_path):
    manifest = prepare("davis2016", root, [real_data / "davis2016"])
    videos = {name: facts["videos"] for name, facts in manifest["parts"].items()}
    assert videos == {"davis16-train": 27, "davis16-val": 8}
    assert manifest["parts"]["davis16-val"]["digest_of"] == "content"
    with pytest.raises(DataError, match=r"judo/00005.png is 853x480 pixels but its frame .* 854x480"):
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "valid").symlink_to(real_data / "multi_ytlike")
        prepare("ytvos", root, [tree])


@pytest.mark.data
def test_real_static_images_are_read(real_data, tmp_path):
    for name in ("static", "static_instances"):
        manifest = prepare("static", DataParams(root=str(tmp_path / name)), [real_data / name])
        assert manifest["parts"]["static"]["frames"] > 100


@pytest.mark.data
def test_real_folders_without_lists_are_missed_in_a_sentence(real_data, root):
    for name in ("davis2017_multi", "davis2017_first_frames"):
        sentence = r"ImageSets/2017/train.txt is missing: extract the whole archive"
        if find_root(real_data / name, ("JPEGImages/480p",)) is None:
            sentence = f"{name} does not hold 'davis2017'"
        with pytest.raises(DataError, match=sentence):
            prepare("davis2017", root, [real_data / name])
