"""The archives in which data sets are handed out: names, places, digests, and how a person gets them."""

from __future__ import annotations

from dataclasses import dataclass

_DAVIS = "https://data.vision.ee.ethz.ch/csergi/share/davis"
_YOUTUBE = "log in at youtube-vos.org, data set page, and download it"
_IMAGENET = "log in at image-net.org, ILSVRC2012, and download it"
_FRAMES = ("JPEGImages", "Annotations")


@dataclass(frozen=True)
class Archive:
    """One official archive of a data set.

    Attributes:
        names: patterns of its file name, the official name first.
        into: folder below the set's folder that it becomes; "" is the set's folder itself.
        needs: paths that lie directly in that folder.
        parts: what `verify` then finds, names of `vosrepro.datasets.prepare.inventory.PARTS`.
        url: address of the file, where its owners give one that needs no login.
        obtain: how a person gets it.
        md5: by official name, where published.
        merge: one of several segments that fill the same folder.
        keep: the loader reads the archive as it is, so it is linked into the folder.
    """

    names: tuple[str, ...]
    into: str
    needs: tuple[str, ...]
    parts: tuple[str, ...]
    url: str | None = None
    obtain: str = ""
    md5: tuple[tuple[str, str], ...] = ()
    merge: bool = False
    keep: bool = False


def _youtube(*years: str, part: str) -> tuple[Archive, ...]:
    return (
        Archive(
            ("train.zip",),
            "train",
            (*_FRAMES, "meta.json"),
            ("ytvos-train",) if part == "ytvos" else (),
            obtain=f"{_YOUTUBE} ({years[0]})",
        ),
        Archive(
            ("valid.zip",), "valid", (*_FRAMES, "meta.json"), (f"{part}-valid",), obtain=f"{_YOUTUBE} ({years[0]})"
        ),
        Archive(
            ("valid_all_frames.zip",),
            "all_frames/valid_all_frames",
            ("JPEGImages",),
            (f"{part}-valid-all",),
            obtain=f"{_YOUTUBE} ({years[0]})",
        ),
        Archive(
            ("train_all_frames.zip",),
            "all_frames/train_all_frames",
            ("JPEGImages",),
            (),
            obtain=f"{_YOUTUBE} ({years[0]})",
        ),
    )


#: MD5 sums of BL30K's segments. Source: hkchengrex/MiVOS: README.
_BL30K = (
    ("BL30K_a.tar", "35312550b9a75467b60e3b2be2ceac81"),
    ("BL30K_b.tar", "269e2f9ad34766b5f73fa117166c1731"),
    ("BL30K_c.tar", "a3f7c2a62028d0cda555f484200127b9"),
    ("BL30K_d.tar", "e659ed7c4e51f4c06326855f4aba8109"),
    ("BL30K_e.tar", "d704e86c5a6a9e920e5e84996c2e0858"),
    ("BL30K_f.tar", "bf73914d2888ad642bc01be60523caf6"),
)

#: Data set -> its archives. Names and layouts: the sets' own pages; hkchengrex/Mask-Propagation:
#: download_datasets.py (static images); nothing here is needed to use a folder that exists.
PREPARATIONS: dict[str, tuple[Archive, ...]] = {
    "davis2016": (
        Archive(
            ("DAVIS-data.zip", "DAVIS*2016*.zip"),
            "",
            ("JPEGImages/480p", "Annotations/480p", "ImageSets/480p"),
            ("davis2016",),
            "https://graphics.ethz.ch/Downloads/Data/Davis/DAVIS-data.zip",
        ),
    ),
    "davis2017": (
        Archive(
            ("DAVIS-2017-trainval-480p.zip",),
            "",
            ("JPEGImages/480p", "Annotations/480p", "ImageSets/2017/train.txt"),
            ("davis2017",),
            f"{_DAVIS}/DAVIS-2017-trainval-480p.zip",
        ),
    ),
    "davis2017-testdev": (
        Archive(
            ("DAVIS-2017-test-dev-480p.zip",),
            "",
            ("JPEGImages/480p", "Annotations/480p", "ImageSets/2017/test-dev.txt"),
            ("davis2017-testdev",),
            f"{_DAVIS}/DAVIS-2017-test-dev-480p.zip",
        ),
    ),
    "ytvos": _youtube("2018 version", part="ytvos"),
    "ytvos19": _youtube("2019 version", part="ytvos19"),
    "static": (
        Archive(
            ("static_data.zip", "static.zip"),
            "",
            ("DUTS-TR",),
            ("static",),
            obtain="https://drive.google.com/file/d/1wUJq3HcLdN-z1t4CsUhjeZ9BVDb9YKLd, linked from "
            "hkchengrex/Mask-Propagation; or download FSS-1000, DUTS, ECSSD, BIG and HRSOD one by one and bring "
            "each into shape with `vosrepro data convert static-pairs` and `static-384`",
        ),
    ),
    "bl30k": tuple(
        Archive(
            (name,),
            "",
            _FRAMES,
            ("bl30k",),
            obtain="doi.org/10.13012/B2IDB-1702934_V1; any of the six segments will do",
            md5=((name, md5),),
            merge=True,
        )
        for name, md5 in _BL30K
    ),
    # MD5 sums as torchvision's ImageNet data set checks them.
    "imagenet": (
        Archive(
            ("ILSVRC2012_img_train.tar",),
            "",
            (),
            ("imagenet",),
            obtain=_IMAGENET,
            keep=True,
            md5=(("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e"),),
        ),
        Archive(
            ("ILSVRC2012_img_val.tar",),
            "",
            (),
            ("imagenet",),
            obtain=_IMAGENET,
            keep=True,
            md5=(("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622"),),
        ),
        Archive(
            ("ILSVRC2012_devkit_t12.tar.gz",),
            "ILSVRC2012_devkit_t12",
            ("data",),
            ("imagenet",),
            obtain=_IMAGENET,
            md5=(("ILSVRC2012_devkit_t12.tar.gz", "fa75699e90414af021442c21a62c3abf"),),
        ),
    ),
    "imagenet-vid": (
        Archive(
            ("ILSVRC2015_VID.tar.gz", "ILSVRC201?_VID*.tar.gz"),
            "",
            ("Data/VID", "Annotations/VID"),
            ("imagenet-vid",),
            obtain="log in at image-net.org, ILSVRC2015, object detection from video",
        ),
    ),
    "ali21": (),
}
