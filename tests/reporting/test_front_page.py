"""The first page: what is counted, drawn and linked there, and how it stands in a browser."""

from __future__ import annotations

import csv
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from browsing import ask, first_paint_ms
from PIL import Image

from vosrepro.reporting import load_table, render_pages
from vosrepro.reporting.evidence.claims import ALWAYS_COUNTED, claims, counted, statement
from vosrepro.reporting.evidence.spending import spending
from vosrepro.reporting.pages.filmstrip import filmstrip
from vosrepro.reporting.pages.picture import SHAPES, picture
from vosrepro.study.params import Study, parse
from vosrepro.study.plan import Plan, load_plan


def test_every_published_score_of_the_methods_is_counted_once(finished: Plan):
    with Path("params/published.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["method"] in finished.methods]
    scores = [r for r in rows if r["metric"] != "FPS" and r["evidence"] != "recalled"]
    found = claims(load_table(finished))
    assert sorted(c.published.key for c in found) == sorted(tuple(r[k] for k in list(r)[:5]) for r in scores)
    assert sum(counted(found).values()) == len(scores)


def test_counts_name_the_verdicts_that_people_ask_for_even_if_there_is_none(finished: Plan):
    counts = counted(claims(load_table(finished)))
    assert set(ALWAYS_COUNTED) <= set(counts)
    assert counts["reproduced"] == 0  # generated data: nothing may count as reproduced
    assert counts["not-comparable"] > 0


def test_the_statement_says_what_was_run_on_what_with_its_reservation_in_one_sentence(finished: Plan):
    text = statement(load_table(finished))
    assert text.count(". ") == 0 and text.endswith(".")
    for part in ("generated videos", "STM", "2 seeds", "copy", "none compares with a paper"):
        assert part in text


def test_the_statement_of_a_study_without_results_claims_none(unstarted: Plan):
    assert statement(load_table(unstarted)).startswith("Nothing has a score yet; planned on generated videos: ")


def test_the_statement_of_half_a_study_says_how_much_is_lacking(own_copy: Plan):
    for path in Path("results/tiny/copy").rglob("score.json"):
        path.unlink()
    assert "(6 of 8 rows have a score so far)" in statement(load_table(own_copy))


def test_the_statement_counts_benchmarks_that_are_too_many_to_name(in_root: Path):
    text = statement(load_table(load_plan("params/studies/paper.yaml")))
    assert re.search(r"planned on \d+ benchmarks from DAVIS 2016", text)


def test_systems_stand_in_the_order_of_their_first_score_and_no_two_verdicts_share_shape_and_fill(finished: Plan):
    drawn = picture(load_table(finished), every=True)
    first = [line.spots[0].row.headline.mean for line in drawn.lines if line.spots[0]]
    assert first == sorted(first, reverse=True) and len(first) > 3
    assert len(picture(load_table(finished)).lines) == len(finished.methods)
    alike = [kind for kind, shape in SHAPES.items() if list(SHAPES.values()).count(shape) > 1]
    assert set(alike) == {"inconclusive", "waiting"}  # one is filled, the other dashed


def test_the_strip_shows_the_video_in_the_middle_with_its_masks(finished: Plan):
    strip = filmstrip(load_table(finished))
    assert strip is not None
    assert [line.name for line in strip.lines] == ["truth", "stm", "copy"]
    table = load_table(finished)
    rows = [line.row for line in strip.lines if line.row]
    means: dict[str, list[float]] = {}
    for row in rows:
        for scored in row.entries[0].objects:
            means.setdefault(scored.sequence, []).append(scored.values["J-Mean"] + scored.values["F-Mean"])
    assert strip.sequence == sorted(means, key=lambda name: sum(means[name]))[len(means) // 2]
    assert len({len(line.tiles) for line in strip.lines}) == 1
    tile = Image.open(io.BytesIO(_bytes(strip.lines[0].tiles[0])))
    bare = Image.open(f"data/DAVIS/2016/JPEGImages/480p/{strip.sequence}/00000.jpg").resize(tile.size)
    assert np.abs(np.asarray(tile, int) - np.asarray(bare, int)).mean() > 1  # the object is tinted
    assert table.plan.benchmarks[strip.benchmark].scoring


def test_a_strip_whose_frames_are_gone_is_left_out(own_copy: Plan):
    import shutil

    shutil.rmtree("data")
    assert filmstrip(load_table(own_copy)) is None


def test_cost_adds_up_what_the_records_state(finished: Plan):
    table = load_table(finished)
    lines = {line.method: line for line in spending(table.evidence)}
    assert sum(line.train_seconds for line in lines.values()) == pytest.approx(table.evidence.training_seconds)
    assert lines["copy"].trainings == 0
    assert lines["stm"].inferences == sum(e.run.method == "stm" for e in finished.entries)


def test_every_number_has_an_address_on_the_first_page_and_every_link_a_target(own_copy: Plan):
    text = render_pages(own_copy)[0].read_text()
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for target in set(re.findall(r'href="#([^"]+)"', text)):
        assert target in ids
    for row in load_table(own_copy).rows:
        assert row.key in ids


def test_the_command_beside_a_number_names_exactly_its_row(own_copy: Plan):
    text = render_pages(own_copy)[0].read_text()
    block = re.search(r'id="stm/s02/full/davis17-val".*?<code class="copied">(.*?)</code>', text, re.S)
    assert block
    words = shlex.split(block[1].replace("&#39;", "'"))
    config = dict([words[words.index("--config") + 1].split("=", 1)])
    study = yaml.safe_load(Path(words[words.index("--configfile") + 1]).read_text())
    part = load_plan(parse({**study, "only": yaml.safe_load(config["only"])}, Study, source="test"))
    assert {(e.run.method, e.run.recipe, e.variant, e.benchmark) for e in part.entries} == {
        ("stm", "s02", "full", "davis17-val")
    }


@pytest.mark.slow
def test_no_table_needs_scrolling_at_1280_px_and_a_mark_opens_where_its_number_comes_from(own_copy: Plan, tmp_path):
    page = render_pages(own_copy)[0]
    found = ask(
        page,
        """
        const wide = [...document.querySelectorAll(".scroll, table")].filter(e => e.scrollWidth > e.clientWidth + 1);
        const closed = document.querySelector("dialog").open;
        document.querySelector("a.spot").click();
        const dialog = document.querySelector("dialog");
        return {wide: wide.map(e => e.ariaLabel), page: document.documentElement.scrollWidth, closed, open: dialog.open,
                hash: location.hash, text: dialog.textContent};
        """,
        tmp_path,
    )
    assert found["wide"] == []
    assert found["page"] <= 1280
    assert (found["closed"], found["open"]) == (False, True)
    assert found["hash"].startswith("#stm/s02/")
    assert "snakemake --cores 2" in found["text"]


@pytest.mark.slow
def test_an_address_of_a_number_opens_its_block(own_copy: Plan, tmp_path):
    page = render_pages(own_copy)[0]
    script = """
        location.hash = "#stm/s02/top50/davis17-val";
        await new Promise(done => setTimeout(done, 100));
        return document.getElementById("stm/s02/top50/davis17-val").checkVisibility({contentVisibilityAuto: true})
            && document.getElementById("stm/s02/top50/davis17-val").open;
    """
    assert ask(page, script, tmp_path) is True


def _bytes(url: str) -> bytes:
    import base64

    return base64.b64decode(url.partition(",")[2])


@pytest.mark.slow
def test_the_first_page_is_painted_within_a_second(own_copy: Plan, tmp_path):
    page = render_pages(own_copy)[0]
    assert min(first_paint_ms(page, tmp_path) for _ in range(3)) < 1000
