"""The pages as a whole: complete, self-contained, stable, and calm about missing or broken artifacts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from vosrepro.base.errors import DamagedError
from vosrepro.commands import report as command
from vosrepro.datasets import benchmark_videos
from vosrepro.reporting import load_table, metrics, render_pages
from vosrepro.reporting.pages.formats import rate
from vosrepro.study.plan import Plan
from vosrepro.study.records import FramePair, InferenceRecord, PairsRecord


def test_render_writes_one_page_per_method_and_the_outlets(own_copy: Plan) -> None:
    written = render_pages(own_copy)
    assert written[:3] == [
        Path("reports/all.html"),
        Path("reports/tiny/copy.html"),
        Path("reports/tiny/stm.html"),
    ]
    assert all(path.is_file() for path in written)
    assert Path("results/tiny/metrics.json") in written
    assert Path("results/tiny/plots/training.csv") in written


def test_checks_that_fail_are_listed_before_all_of_them(own_copy: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vosrepro.reporting.evidence.checks.BEATS_COPY_POINTS", 1000.0)
    text = render_pages(own_copy)[0].read_text()
    failing = re.search(r'aria-label="Checks that fail">(.*?)</ul>', text, re.S)
    assert failing
    assert "beats copy on" in failing[1]
    assert "by at least 1000 points" in failing[1]
    assert text.index(failing[0]) < text.index("<summary>Training works")
    assert re.search(r"<summary>Training works: <b>\d+ of \d+ holds?</b>, <b class=\"bad\">\d+ fail", text)
    monkeypatch.setattr("vosrepro.reporting.evidence.checks.BEATS_COPY_POINTS", -1000.0)
    assert (
        "beats copy"
        not in (re.findall(r"Checks that fail.*?</ul>", render_pages(own_copy)[0].read_text(), re.S) or [""])[0]
    )


def test_equal_artifacts_give_equal_bytes(finished: Plan, tmp_path: Path) -> None:
    first = render_pages(finished, tmp_path / "a", partial=True)
    second = render_pages(finished, tmp_path / "b", partial=True)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_pages_load_nothing_from_outside(finished: Plan, tmp_path: Path) -> None:
    for page in render_pages(finished, tmp_path, partial=True):
        text = page.read_text()
        assert not re.search(r"<link|<script[^>]+src=|@import|url\((?!data:)", text)
        assert not re.search(r"""(?:src|poster|srcset)=["'](?!data:)""", text)
        assert "Content-Security-Policy" in text


def test_pages_stay_small(finished: Plan, tmp_path: Path) -> None:
    assert all(p.stat().st_size < 3e6 for p in render_pages(finished, tmp_path, partial=True))


def test_names_and_titles_are_escaped(finished: Plan, tmp_path: Path) -> None:
    overview, _, method = render_pages(finished, tmp_path, partial=True)
    assert "Tiny &lt;b&gt;study" in overview.read_text()
    assert "<i>quoted</i>" not in method.read_text()


def test_a_study_that_never_ran_gives_rows_not_run(unstarted: Plan) -> None:
    text = render_pages(unstarted)[0].read_text()
    rows = len({(e.run.method, e.run.recipe, e.variant, e.benchmark) for e in unstarted.entries})
    assert len(re.findall(r'<tr class="absent[^"]*">\s*<th scope="row"><a href', text)) == rows
    assert f"{rows} of {rows} entries have no score" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("score.json", "{broken"),
        ("score.json", "[]"),
        ("scores.csv", "sequence,frames\nants,x\n"),
        ("infer.json", ""),
        ("infer.json", '{"entry": "stm", "device": 3}'),
        ("counts.parquet", "not parquet"),
    ],
)
def test_a_broken_artifact_is_named_and_the_report_goes_on(own_copy: Plan, name: str, content: str) -> None:
    entry = next(e for e in own_copy.entries if e.run.recipe == "s02")
    (entry.folder / name).write_text(content)
    pages = [p.read_text() for p in render_pages(own_copy)[:3]]
    assert any(f"{entry.folder}/{name}" in text for text in pages)
    assert '<h3 id="davis16-val">' in pages[0]


def test_a_broken_frame_costs_only_the_viewer_of_its_benchmark(own_copy: Plan) -> None:
    for path in Path("data/DAVIS/2016/JPEGImages/480p").glob("*/00002.jpg"):
        path.write_bytes(b"\xff\xd8 cut off")
    text = render_pages(own_copy)[2].read_text()
    assert "00002.jpg cannot be read" in text
    assert '"davis17-val"' in text


def test_partial_leaves_the_declared_outputs_alone(own_copy: Plan) -> None:
    arguments = ["--study", "params/studies/tiny.yaml", "--partial"]
    assert _run(arguments) == 0
    assert Path("reports/partial.html").is_file()
    assert Path("reports/tiny-partial/stm.html").is_file()
    assert not Path("reports/all.html").exists()
    assert not Path("results/tiny/metrics.json").exists()


def test_links_between_pages_exist(own_copy: Plan) -> None:
    overview, *methods = render_pages(own_copy)[:3]
    for target in set(re.findall(r'href="(tiny/[^"]+)"', overview.read_text())):
        page, _, anchor = target.partition("#")
        text = (overview.parent / page).read_text()
        assert not anchor or f'id="{anchor}"' in text
    for page in methods:
        text = page.read_text()
        for anchor in set(re.findall(r'href="#([^"]+)"', text)):
            assert f'id="{anchor}"' in text


def test_every_number_has_its_trail(finished: Plan, tmp_path: Path) -> None:
    text = render_pages(finished, tmp_path, partial=True)[2].read_text()
    for fact in (
        "vosrepro train --stage s2",
        "0123456789abcdef",
        "cd" * 32,
        "e" * 16,
        "d" * 16,
        "state/journals/tiny/stm/s02/seed1/score.jsonl",
        "&#34;top_k&#34;: 50",
    ):
        assert fact in text, fact


def test_metrics_are_means_over_seeds_in_points(own_copy: Plan) -> None:
    tree = metrics(own_copy)
    assert json.loads(Path("results/tiny/metrics.json").read_text()) == tree
    seeds = [
        json.loads((own_copy.run("stm", "s02", k).folder / "top50/davis16-val/score.json").read_text()) for k in (0, 1)
    ]
    mean = 100 * sum(s["global"]["J&F-Mean"] for s in seeds) / 2
    assert tree["stm"]["s02"]["top50"]["generated-davis16-val"]["J&F-Mean"] == pytest.approx(mean, abs=1e-3)


@pytest.mark.slow
def test_the_viewer_runs_in_a_browser(own_copy: Plan, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    page = render_pages(own_copy)[2].resolve()
    result = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--dump-dom",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path}/browser",
            "--virtual-time-budget=3000",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.search(r'data-status=""[^>]*>\w+, frame 0000\d \(\d of 6\)', result.stdout)
    assert result.stdout.count('<polyline class="s0"') == 1


def _run(arguments: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_the_share_of_reused_masks_stands_beside_the_speed(own_copy: Plan) -> None:
    assert "% reused" not in render_pages(own_copy)[0].read_text()
    for entry in own_copy.entries:
        if entry.run.method == "stm":
            record = InferenceRecord.read(entry.inference)
            record.model_copy(update={"counts": {"tracked": 80, "reused": 20}}).write(entry.inference)
    assert "25 % reused" in render_pages(own_copy)[0].read_text()


def test_a_run_with_correspondences_gets_a_page_of_its_own(own_copy: Plan) -> None:
    run = next(e.run for e in reversed(own_copy.entries) if e.run.method == "stm")
    video = benchmark_videos(own_copy.entries[-1].benchmark_params, own_copy.study.data)[0]
    frame = str(video.frames[0])
    pair = FramePair(
        video=video.name,
        source=frame,
        target=frame,
        size=(64, 96),
        grid=(8, 12),
        cell_px=8,
        top=0,
        left=0,
        begin=(1, 2),
        peaks=(0.5,) * 96,
    )
    for each in (r for r in own_copy.runs if r.method == run.method):
        PairsRecord(pairs=(pair,)).write(each.pairs)
        (each.correspondences / f"{video.name}.png").write_bytes(
            cv2.imencode(".png", np.eye(96, dtype=np.uint8) * 255)[1].tobytes()
        )
    names = [path.name for path in render_pages(own_copy)]
    assert "stm-correspondences.html" in names
    assert "stm-correspondences.html" in Path("reports/tiny/stm.html").read_text()
    assert "copy-correspondences.html" not in names


def test_the_accuracy_of_a_classifier_is_drawn_with_the_drops_of_its_rate(own_copy: Plan) -> None:
    assert "classification" not in render_pages(own_copy)[2].read_text()
    path = own_copy.stages[0].folder / "metrics.jsonl"
    lines = [
        {
            "event": "metrics",
            "time": 0,
            "step": s,
            "metrics": {"val/top1": 10.0 + s, "val/top5": 50},
        }
        for s in (4, 8)
    ]
    path.write_text(path.read_text() + "".join(json.dumps(line) + "\n" for line in lines))
    text = render_pages(own_copy)[2].read_text()
    assert f"{own_copy.stages[0].stage}, seed 0: classification" in text
    assert "accuracy, %" in text


def test_a_published_speed_stands_beside_both_conventions(finished: Plan, tmp_path: Path) -> None:
    row = next(r for r in load_table(finished).rows if r.cells["FPS"].published)
    assert row.rate_of_sequences == pytest.approx(1.02 * row.cells["FPS"].mean)
    page = (render_pages(finished, tmp_path, outlets=False)[0]).read_text()
    assert f"{rate(row.rate_of_sequences)} as mean of sequences" in page


@pytest.mark.parametrize("name", ["metrics.json", "plots/training.csv", "plots/selection.csv", "plots/scores.csv"])
def test_pages_are_not_written_beside_files_that_say_something_else(own_copy: Plan, tmp_path: Path, name: str) -> None:
    render_pages(own_copy, tmp_path)
    render_pages(own_copy, tmp_path, outlets=False)
    path = own_copy.results / name
    path.write_text(path.read_text().replace("1", "7"))
    with pytest.raises(DamagedError, match=f"{name} says something else than the results .*run the same command again"):
        render_pages(own_copy, tmp_path, outlets=False)
    assert not path.exists()
    assert not (own_copy.results / "metrics.json").exists()  # so that the rule which makes all of them is due
