"""`vosrepro score`: what people see, and the exit code."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image
from slow_scorer import counts

from vosrepro.cli import main
from vosrepro.scoring import score_arrays


def test_tables_and_files_of_a_davis_root(masks, capsys, monkeypatch):
    root, truth, predictions = masks
    (root / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (root / "DAVIS/ImageSets/2017/val.txt").write_text("ants\n")
    (root / "DAVIS/Annotations").mkdir()
    (root / "gt").rename(root / "DAVIS/Annotations/480p")
    call = ["score", str(root / "pred"), "--truth", str(root / "DAVIS"), "--protocol", "davis2017"]
    assert main([*call, "--out", str(root / "out")]) == 0
    text = capsys.readouterr().out
    expected = score_arrays(predictions, truth, "davis2017", sequences=["ants"])
    assert f"{expected.global_['J&F-Mean']:8.3f}" in text
    assert "1 sequences of " in text
    assert (root / "out/global_results-val.csv").is_file()
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["global"] == expected.global_


def test_scores_of_other_masks_are_replaced_by_force_only(masks, capsys):
    root, *_ = masks
    (root / "pred").rename(root / "other")
    (root / "other/ants").rename(root / "ants")
    (root / "pred").mkdir()
    (root / "ants").rename(root / "pred/ants")
    (root / "list.txt").write_text("ants\n")
    rest = ["--truth", str(root / "gt"), "--sequences", str(root / "list.txt"), "--out", str(root / "out")]
    first = ["score", str(root / "pred"), "--protocol", "davis2017", *rest]
    assert main(first) == 0
    assert main(first) == 0
    held = (root / "out/score.json").read_bytes()
    (root / "pred/ants").rename(root / "other/ants")
    assert main(["score", str(root / "other"), "--protocol", "davis2017", *rest]) == 2
    assert "score.json holds scores of other results (" in capsys.readouterr().err
    assert (root / "out/score.json").read_bytes() == held
    assert main(["score", str(root / "other"), "--protocol", "davis2017", *rest, "--force"]) == 0
    assert json.loads((root / "out/score.json").read_text())["results"] == str(root / "other")


def test_mistakes_exit_with_2_and_one_sentence(masks, capsys):
    root, *_ = masks
    (root / "pred/ants/00003.png").unlink()
    call = ["score", str(root / "pred"), "--truth", str(root / "gt"), "--protocol"]
    assert main([*call, "davis2017"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vosrepro: ")
    assert "sequence 'ants' lacks frame '00003'" in error
    assert main([*call, "davis2018"]) == 2
    assert "did you mean 'davis201" in capsys.readouterr().err


def test_lists_of_sequences(masks, capsys):
    root, *_ = masks
    listed = root / "list.txt"
    listed.write_text("/JPEGImages/480p/bees/00000.jpg /Annotations/480p/bees/00000.png\n" * 2)
    call = ["score", str(root / "pred"), "--truth", str(root / "gt"), "--protocol", "davis2017"]
    assert main([*call, "--sequences", str(listed), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sequences"] == 1
    listed.write_text("\n")
    assert main([*call, "--sequences", str(listed)]) == 2
    assert "is empty" in capsys.readouterr().err


def test_explain_shows_counts_and_draws_the_boundaries(masks, capsys):
    root, truth, predictions = masks
    call = ["score", str(root / "pred"), "--truth", str(root / "gt"), "--protocol", "davis2017"]
    explain = ["--explain", "bees", "00002", "2", "--out", str(root)]
    assert main([*call, *explain]) == 0
    text = capsys.readouterr().out
    want = counts(*(a["bees"]["00002"] == 2 for a in (truth, predictions)))
    assert f"{want[0]} pixels in both masks of {want[1] + want[2] - want[0]}" in text
    picture = np.asarray(Image.open(root / "explain-bees-00002-2.png"))
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3
    assert main([*call, *explain, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert list(value["counts"].values()) == want
    assert main([*call, "--explain", "bees", "00002", "9"]) == 2
    assert "no object 9" in capsys.readouterr().err


def test_explain_says_when_a_frame_is_not_scored(masks, capsys):
    root, *_ = masks
    call = ["score", str(root / "pred"), "--truth", str(root / "gt"), "--protocol", "davis2017"]
    assert main([*call, "--explain", "bees", "00000", "1", "--out", str(root)]) == 0
    assert "not scored by the protocol" in capsys.readouterr().out


def test_seen_categories_from_a_training_meta(masks, capsys):
    root, *_ = masks
    objects = {
        "1": {"category": "ape", "frames": ["00000"]},
        "2": {"category": "yak", "frames": ["00001"]},
    }
    third = {"3": {"category": "yak", "frames": ["00000"]}}
    videos = {"ants": {"objects": objects}, "bees": {"objects": objects | third}}
    (root / "meta.json").write_text(json.dumps({"videos": videos}))
    train = {"videos": {"x": {"objects": {"1": {"category": "ape", "frames": ["0"]}}}}}
    (root / "train.json").write_text(json.dumps(train))
    call = ["score", str(root / "pred"), "--truth", str(root / "gt"), "--protocol", "ytvos-local"]
    options = ["--seen", str(root / "train.json"), "--out", str(root / "out")]
    assert main([*call, *options]) == 0  # meta.json lies beside the annotations
    assert "J_unseen" in capsys.readouterr().out
    with (root / "out/scores.csv").open() as file:
        groups = [row["group"] for row in csv.DictReader(file)]
    assert groups == ["seen", "unseen", "seen", "unseen", "unseen"]


def test_help_shows_every_protocol(capsys):
    from vosrepro.scoring.counting.protocols import PROTOCOLS

    with pytest.raises(SystemExit) as caught:
        main(["score", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in PROTOCOLS)


def test_benchmark_compares_with_a_foreign_scorer(masks, capsys):
    root, *_ = masks
    folder = root / "foreign/vos_benchmark"
    folder.mkdir(parents=True)
    (folder / "benchmark.py").write_text(
        "def benchmark(gt, pred, *a, **k):\n"
        "    from vosrepro.scoring import score_folder\n"
        "    g = score_folder(pred[0], gt[0], 'vos-benchmark').global_\n"
        "    return [0], [100 * g['J-Mean'] + OFF], [100 * g['F-Mean']], []\n"
        "OFF = 0\n"
    )
    call = ["bench", "score", "--truth", str(root / "gt"), "--rounds", "1", "--processes", "1"]
    call += ["--vs", f"vos-benchmark={root / 'foreign'}", "--json", str(root / "bench.json")]
    assert main(call) == 0
    assert "floor: read + inflate" in capsys.readouterr().out
    report = json.loads((root / "bench.json").read_text())
    assert report["several"]["programs"]["vos-benchmark"]["cpu_s"] > 0
    file = folder / "benchmark.py"
    file.write_text(file.read_text().replace("OFF = 0", "OFF = 1"))
    assert main(call) == 1
    assert "one of the two is wrong" in capsys.readouterr().err
    assert main([*call[:4], "--vs", "other=/x"]) == 2
