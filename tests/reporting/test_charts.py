"""Axes, marks and cards: small parts whose mistakes a reader would not notice."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vosrepro.base.types import Method, Paper
from vosrepro.reporting.pages import formats
from vosrepro.reporting.pages.cards import card_of, render_card
from vosrepro.reporting.pages.charts import (
    Axis,
    Mark,
    Series,
    dot_strip,
    line_chart,
    moving_average,
    scatter,
)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_ticks_lie_inside_the_axis_and_are_few(values: list[float]) -> None:
    axis = Axis.around(values, "x")
    assert all(axis.low - 1e-6 <= t <= axis.high + 1e-6 for t in axis.ticks())
    assert 2 <= len(axis.ticks()) <= 12
    assert all(0 <= axis.share(v) <= 1 for v in values)


@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=20))
def test_logarithmic_ticks_lie_inside_the_axis(values: list[float]) -> None:
    axis = Axis.around(values, "x", log=True)
    assert axis.ticks() or axis.high / axis.low < 3
    assert all(axis.low <= t <= axis.high for t in axis.ticks())


def test_smoothing_keeps_a_constant_and_averages_noise() -> None:
    assert moving_average([2.0] * 5, 3) == pytest.approx([2.0] * 5)
    assert abs(moving_average([0.0, 1.0] * 50, 20)[-1] - 0.5) < 0.05
    assert moving_average([1.0, 5.0], 1) == [1.0, 5.0]


def test_labels_of_charts_are_escaped() -> None:
    axis = Axis.around([0, 1], "<b>")
    svg = scatter([Mark(0.5, 0.5, "<script>")], title='"quoted"', x=axis, y=axis)
    assert "<script>" not in svg
    assert "<b>" not in svg
    assert '"quoted"' not in svg


def test_long_curves_are_thinned_but_end_where_they_end() -> None:
    x = list(range(5000))
    axis = Axis(0, 4999, "step")
    svg = line_chart([Series("a", x, x)], title="t", x=axis, y=axis)
    points = re.search(r'points="([^"]+)"', svg).group(1).split()
    assert len(points) < 400
    assert points[-1].startswith("448.0,")


def test_differences_are_drawn_on_their_side_of_zero() -> None:
    svg = dot_strip([("a", -10.0), ("b", 20.0)], title="t", interval=None, mean=5.0)
    zero = float(re.search(r'class="zero" x1="([\d.]+)"', svg).group(1))
    assert float(re.search(r'class="down" cx="([\d.]+)"', svg).group(1)) < zero
    assert float(re.search(r'class="up" cx="([\d.]+)"', svg).group(1)) > zero


def test_cards_show_html_as_text_and_keep_only_outside_links() -> None:
    card = render_card(
        "# Title\n\nThe *idea*.\n\n## Data\n\n<script>x</script> [paper](https://example.org/p) "
        "[local](../x.md)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n![picture](p.png)\n"
    )
    assert card.lead == "The <em>idea</em>."
    assert "Title" not in card.body
    assert "<script>" not in card.body
    assert "<img" not in card.body
    assert 'href="https://example.org/p"' in card.body
    assert "../x.md" not in card.body
    assert "<h3>Data</h3>" in card.body
    assert "<td>2</td>" in card.body


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (formats.points, None, "–"),
        (formats.points, 63.25, "63.2"),
        (formats.points, -1.5, "−1.5"),
        (formats.signed, -0.04, "±0.0"),
        (formats.signed, -2.0, "−2.0"),
        (formats.FILTERS["duration"], None, "–"),
        (formats.megabytes, 1234.0, "1.2 GB"),
        (formats.rate, 9.754, "9.75"),
        (formats.metric_heading, "J-Recall", "J recall"),
        (formats.metric_heading, "F_unseen", "F unseen"),
        (formats.metric_heading, "J&F-Mean", "J&F"),
        (formats.percent, 130.0, "100.00%"),
    ],
)
def test_numbers_are_written_as_promised(function, value, text: str) -> None:
    assert function(value) == text


def test_axis_of_nothing_is_still_an_axis() -> None:
    assert Axis.around([math.nan], "x").high > Axis.around([], "x").low


def test_a_method_without_a_card_shows_its_idea_and_where_it_was_published():
    paper = Paper("Bright & Dark", "ICCV 2030", "https://example.org/bright", code="them/bright")
    card = card_of(Method("bright", "Bright is object.", segmenter=lambda: None, paper=paper))
    assert card.lead == "Bright is object."
    assert re.findall(r'href="([^"]+)"', card.body) == ["https://example.org/bright", "https://github.com/them/bright"]
    assert "Bright &amp; Dark" in card.body and "ICCV 2030" in card.body
    assert "href" not in card_of(Method("bright", "Bright is object.", segmenter=lambda: None)).body
