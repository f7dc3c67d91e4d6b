"""Masks that authors published, from a miniature of DAVIS 2016 to the verdict; nothing runs but the scorer."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from vosrepro.base.errors import ConfigError, DamagedError, DataError
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.cli import main
from vosrepro.datasets.prepare.verification import verify
from vosrepro.reporting import load_table
from vosrepro.reporting.evidence.claims import statement
from vosrepro.reporting.evidence.summary import study_verdict
from vosrepro.scoring import score_folder
from vosrepro.scoring.entries import score_run
from vosrepro.study.params import load_study
from vosrepro.study.plan import Plan, load_plan
from vosrepro.study.published import COLUMNS, FRAME_COLUMNS, load_published_frames
from vosrepro.study.records import DataManifest, InferenceRecord

SEQUENCES = ("ants", "bees")
FRAMES, HEIGHT, WIDTH = 7, 40, 64
NAME = ("others", "squares", "published", "davis16-val")
STUDY = {
    "study": "toy",
    "title": "toy",
    "size": "full",
    "data": {"root": "data"},
    "masks_root": "theirs",
    "selection": {"sequences": []},
    "statistics": {"bootstrap_draws": 50, "permutation_draws": 50},
    "entries": [
        {"method": NAME[0], "recipes": [NAME[1]], "variants": [NAME[2]], "benchmarks": [NAME[3]]},
    ],
}
METHOD = {
    "method": NAME[0],
    "title": "others",
    "default_variant": NAME[2],
    "variants": {NAME[2]: {}},
    "sizes": {"full": {"recipes": {NAME[1]: {"title": "squares", "weights": "masks"}}}},
}
RELEASED = {NAME[0]: {NAME[1]: {"file": "squares.zip", "obtain": "a site", "licence": "none stated", "masks": NAME[3]}}}


def square(frame: int, *, shift: int = 0, value: int = 255) -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[10:26, 8 + 2 * frame + shift : 28 + 2 * frame + shift] = value
    return labels


def png(labels: np.ndarray) -> bytes:
    """A plain grey file, as many authors write them."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def theirs(**changes: np.ndarray) -> dict[str, bytes]:
    """Members of their archive by "sequence/frame": the true squares, more and more beside their place."""
    members = {
        f"{name}/{frame:05d}": png(square(frame, shift=frame // (2 + number)))
        for number, name in enumerate((*SEQUENCES, "wasps"))
        for frame in range(FRAMES)
    }
    return members | {key.replace("__", "/"): png(labels) for key, labels in changes.items()}


def write_zip(members: dict[str, bytes], *, inside: str = "squares/") -> None:
    """As `pml.zip` is: a folder of its own name, and the twins that a Mac adds."""
    Path("theirs").mkdir(exist_ok=True)
    with zipfile.ZipFile("theirs/squares.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{inside}{name}.png", data)
            archive.writestr(f"__MACOSX/{inside}{Path(name).parent}/._{Path(name).name}.png", b"resource fork")


@pytest.fixture
def plan(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of published masks beside two real-looking sequences; no masks yet."""
    monkeypatch.chdir(tmp_path)
    for folder in ("params/methods", "params/studies"):
        Path(folder).mkdir(parents=True)
    Path("params/protocols").symlink_to(root / "params/protocols")
    for name, value in (("methods/others", METHOD), ("studies/toy", STUDY), ("released", RELEASED)):
        Path(f"params/{name}.yaml").write_text(yaml.safe_dump(value))
    tree = Path("data/DAVIS/2016")
    (tree / "ImageSets/2016").mkdir(parents=True)
    (tree / "ImageSets/2016/val.txt").write_text("\n".join(SEQUENCES) + "\n")
    for name in SEQUENCES:
        for kind in ("JPEGImages", "Annotations"):
            (tree / kind / "480p" / name).mkdir(parents=True)
        for frame in range(FRAMES):
            Image.new("RGB", (WIDTH, HEIGHT)).save(tree / "JPEGImages/480p" / name / f"{frame:05d}.jpg")
            write_labels(tree / "Annotations/480p" / name / f"{frame:05d}.png", square(frame))
    return load_plan("params/studies/toy.yaml")


def manifest(plan: Plan, *, official: int) -> None:
    """The manifest of the data rule, of a benchmark that has so many videos officially."""
    facts = verify(plan.study.data, ["davis16-val"])
    assert facts["parts"]["davis16-val"]["videos"] == len(SEQUENCES)
    facts["parts"]["davis16-val"]["official_videos"] = official
    DataManifest.model_validate({**facts, "study": "toy"}).write(plan.data_manifest)


COMMAND = ["take-masks", "--study", "params/studies/toy.yaml", "--method", NAME[0], "--recipe", NAME[1], "--seed", "0"]


def take(plan: Plan) -> InferenceRecord:
    assert main(COMMAND) == 0
    return InferenceRecord.read(plan.entries[0].inference)


def publish(*, number_off: float = 0.0, frame_off: float = 0.0) -> None:
    """Print what their masks score, to one decimal and to three: an oracle that sees arrays, not files."""
    from vosrepro.scoring import score_arrays

    labels = {
        name: {f"{f:05d}": square(f, shift=f // (2 + number), value=1) for f in range(FRAMES)}
        for number, name in enumerate(SEQUENCES)
    }
    truth = {name: {f"{f:05d}": square(f, value=1) for f in range(FRAMES)} for name in SEQUENCES}
    score = score_arrays(labels, truth, "davis2016")
    metrics = ("J-Mean", "F-Mean", "J-Recall", "F-Recall", "J-Decay", "F-Decay")
    numbers = [[*NAME, m, f"{100 * score.global_[m] + number_off:.1f}", "a site", "site", ""] for m in metrics]
    frames = []
    for name in SEQUENCES:
        _, region, contour = score.per_frame(name, 1)
        region = region + np.eye(len(region))[0] * (frame_off if name == "ants" else 0)
        frames.append([*NAME, name, *(" ".join(f"{v:.3f}" for v in of) for of in (region, contour)), "a site"])
    for path, rows in (("published", [COLUMNS, *numbers]), ("published_frames", [FRAME_COLUMNS, *frames])):
        with Path(f"params/{path}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def row(plan: Plan):
    score_run(plan, plan.runs[0])
    return load_table(plan).by_name[NAME]


@pytest.mark.parametrize("extracted", [False, True])
def test_a_nested_archive_is_taken_as_it_comes_and_scores_as_its_masks_do(plan, extracted):
    manifest(plan, official=2)
    write_zip(theirs())
    if extracted:
        zipfile.ZipFile("theirs/squares.zip").extractall("theirs/squares")
        Path("theirs/squares.zip").unlink()
    record = take(plan)
    assert record.taken is not None
    assert (record.taken.inside, record.taken.left, record.taken.lacking) == ("squares", 1, 0)
    assert record.taken.path == ("squares" if extracted else "squares.zip")
    masks = plan.entries[0].masks
    assert {p.name for p in masks.iterdir()} == set(SEQUENCES)
    assert np.array_equal(read_labels(masks / "bees/00006.png"), square(6, shift=2, value=1))
    direct = score_folder(
        "theirs/squares/squares" if extracted else "theirs/squares.zip/squares",
        "data/DAVIS/2016/Annotations/480p",
        "davis2016",
        sequences=SEQUENCES,
    )
    score_run(plan, plan.runs[0])
    found = load_table(plan).rows[0].cells["J-Mean"].mean
    assert found == pytest.approx(100 * direct.global_["J-Mean"], abs=1e-9)


def test_numbers_that_come_back_are_reproduced_and_one_frame_that_does_not_takes_it_back(plan):
    manifest(plan, official=2)
    write_zip(theirs())
    take(plan)
    publish()
    whole = row(plan)
    assert whole.verdict.kind == "reproduced"
    assert whole.frames is not None
    assert (whole.frames.values, whole.frames.beyond) == (2 * len(SEQUENCES) * (FRAMES - 2), 0)
    assert {c.verdict.kind for name, c in whole.cells.items() if name != "FPS" and c.verdict} == {"reproduced"}
    assert len([c for c in whole.cells.values() if c.published]) == 7  # J&F is the mean of the two that are printed
    assert statement(load_table(plan)).startswith("On 2 real videos of DAVIS 2016 val (ground truth: DAVIS 2016, one")
    assert "by the masks that their authors published" in statement(load_table(plan))
    assert "All 20 published values of single frames come back" in study_verdict(load_table(plan), [])
    publish(frame_off=-0.002)
    off = row(plan)
    assert off.verdict.kind == "not-reproduced"
    assert "the means come back, but of 20 published values of single frames" in off.verdict.text
    assert "19 lie within their rounding" in off.verdict.text
    assert "(ants, frame 00001, J)" in off.verdict.text
    publish(number_off=-0.3)
    assert row(plan).verdict.kind == "not-reproduced"


def test_a_part_of_the_sequences_is_never_compared_with_the_number_of_all(plan):
    manifest(plan, official=20)
    write_zip(theirs())
    take(plan)
    publish(number_off=-7.0)  # what all twenty would have
    part = row(plan)
    assert part.verdict.kind == "reproduced"
    assert part.cells["J-Recall"].published is None
    published = part.cells["J-Mean"].published
    assert published is not None
    assert "mean over 2 sequences" in published.source
    assert abs(part.cells["J-Mean"].mean - published.value) <= published.rounding
    text = statement(load_table(plan))
    assert text.startswith(
        "On 2 of the 20 real videos of DAVIS 2016 val (ants, bees; ground truth: DAVIS 2016, one object"
    )
    Path("params/published_frames.csv").unlink()
    assert row(plan).verdict.kind == "unpublished"


def _no_folder(members: dict[str, bytes]) -> dict[str, bytes]:
    return {name.replace("ants", "cows").replace("bees", "cars"): data for name, data in members.items()}


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_no_folder, "squares.zip holds masks of none of the 2 sequences .ants, bees.: it is of another benchmark"),
        (lambda m: {k: v for k, v in m.items() if "bees" not in k}, "lacks 1 of the 2 sequences .bees.: download it"),
        (lambda m: {k: v for k, v in m.items() if k != "bees/00003"}, "'bees' lacks 1 of 7 frames, first '00003'"),
        (
            lambda m: m | {"bees/00003": png(np.zeros((20, 32), np.uint8))},
            "'bees', frame '00003' is 32 x 20 pixels, but its annotation is 64 x 40",
        ),
        (
            lambda m: m | {"bees/00003": png(square(3, value=2))},
            "'bees', frame '00003': it is not a binary mask .it holds 2",
        ),
        (lambda m: m | {"bees/00003": b"no picture"}, "'bees', frame '00003' cannot be read"),
    ],
)
def test_masks_of_something_else_are_one_sentence(plan, capsys, spoil: Callable, sentence: str):
    manifest(plan, official=2)
    write_zip(spoil(theirs()))
    with pytest.raises(DataError, match=sentence):
        _run(plan)
    assert main(COMMAND) != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def _run(plan: Plan) -> None:
    from vosrepro.inference.taken import take_run

    take_run(plan, plan.runs[0])


def test_a_taken_mask_that_somebody_changed_is_named_and_taken_again(plan):
    manifest(plan, official=2)
    write_zip(theirs())
    take(plan)
    mask = plan.entries[0].masks / "bees/00003.png"
    before = mask.read_bytes()
    write_labels(mask, square(3, shift=9, value=1))
    with pytest.raises(DamagedError, match=r"bees/00003.png is not the file that inference wrote"):
        score_run(plan, plan.runs[0])
    assert not plan.runs[0].inference.exists()
    take(plan)
    assert mask.read_bytes() == before
    score_run(plan, plan.runs[0])


def test_the_first_and_last_frame_may_lack_for_nobody_scores_them(plan):
    manifest(plan, official=2)
    write_zip({k: v for k, v in theirs().items() if not k.endswith(("00000", "00006"))})
    record = take(plan)
    assert record.taken is not None
    assert record.taken.lacking == 2 * len(SEQUENCES)
    publish()
    assert row(plan).verdict.kind == "reproduced"


def test_masks_that_are_not_here_or_not_listed_say_where_they_belong(plan):
    manifest(plan, official=2)
    where = r"download squares.zip \(a site; licence: none stated\) and put it at theirs/squares.zip"
    with pytest.raises(DataError, match=f"others/squares are not here: {where}, or extract it to theirs/squares"):
        _run(plan)
    write_zip(theirs())
    other = {NAME[0]: {NAME[1]: {**RELEASED[NAME[0]][NAME[1]], "masks": "davis17-val"}}}
    Path("params/released.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(ConfigError, match="squares.zip holds masks of davis17-val, not of davis16-val"):
        _run(plan)
    Path("params/released.yaml").write_text("stm: {}\n")
    with pytest.raises(ConfigError, match=r"params/released.yaml names no masks of others/squares"):
        _run(plan)


def test_a_data_root_with_half_of_the_sequences_names_what_lacks(plan):
    import shutil

    manifest(plan, official=2)
    write_zip(theirs())
    shutil.rmtree("data/DAVIS/2016/JPEGImages/480p/bees")
    with pytest.raises(DataError, match="bees"):
        _run(plan)


def test_another_zip_than_the_listed_one_is_noted(plan):
    manifest(plan, official=2)
    write_zip(theirs())
    listed = {NAME[0]: {NAME[1]: {**RELEASED[NAME[0]][NAME[1]], "sha256": "0" * 64}}}
    Path("params/released.yaml").write_text(yaml.safe_dump(listed))
    record = take(plan)
    assert record.taken is not None
    assert record.taken.expected is False


def test_a_run_with_weights_takes_no_masks(in_root, capsys):
    call = ["take-masks", "--study", "params/studies/mini.yaml", "--method", "copy", "--recipe", "none", "--seed", "0"]
    assert main(call) == 2
    assert "has weights 'none', not masks: use `vosrepro infer`" in capsys.readouterr().err


def test_published_frames_average_to_the_published_numbers(in_root):
    """The five systems of the study, as their site prints them: two tables that nobody here made."""
    from vosrepro.study.published import Key, load_published

    frames, numbers = load_published_frames(), load_published()
    names = {e.published_name for e in load_plan(load_study("params/studies/published-masks.yaml")).entries}
    assert set(frames) == names
    for name, found in frames.items():
        assert len(found.scores) == 20
        for measure, place in (("J-Mean", 0), ("F-Mean", 1)):
            mean = np.mean([np.mean(values[place]) for values in found.scores.values()])
            assert mean == pytest.approx(numbers[Key(*name, measure)].value, abs=0.1)
    assert sum(len(of) for found in frames.values() for pair in found.scores.values() for of in pair) == 5 * 2 * 1336


@pytest.mark.parametrize("values", ["0.9x 0.800", "0.900", "90.0 80.0"])
def test_a_bad_row_of_published_frames_names_its_line(tmp_path, values):
    path = tmp_path / "frames.csv"
    path.write_text(",".join(FRAME_COLUMNS) + f"\na,b,c,d,cows,{values},0.900 0.800,a site\n")
    with pytest.raises(ConfigError, match=r"frames.csv, line 2: J and F are shares with three decimals"):
        load_published_frames(path)
