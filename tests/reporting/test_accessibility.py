"""The pages for readers who see little, or little color: contrast by computing, the rest by axe-core."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from browsing import ask

from vosrepro.reporting import render_pages
from vosrepro.reporting.pages import cards
from vosrepro.study.plan import Plan

STYLE = (Path(cards.__file__).parent / "templates/style.css").read_text(encoding="utf-8")
#: Where Debian's node-axe-core puts the program; VOSREPRO_AXE names another place.
AXE = Path(os.environ.get("VOSREPRO_AXE", "/usr/share/nodejs/axe-core/axe.min.js"))
#: Colors of text, and what they stand on.
PAIRS = [(text, ground) for text in ("ink", "soft", "link", "s1", "bad") for ground in ("paper", "card")]
PAIRS += [(name, f"{name}-bg") for name in ("good", "near", "warn", "bad", "mute", "blue")]


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb, by WCAG 2.2."""
    shares = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def themes() -> list[dict[str, str]]:
    """The colors of the light, the dark and the printed page."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", block)) for block in blocks]


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_stands_out_from_its_ground_by_at_least_four_and_a_half(theme):
    colors = {n: c if len(c) == 7 else "#" + "".join(2 * d for d in c[1:]) for n, c in themes()[theme].items()}
    for text, ground in PAIRS:
        high, low = sorted((luminance(colors[text]), luminance(colors[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_tables_of_a_card_have_names_of_their_own_and_no_empty_headings():
    table = "|  | a |\n|---|---|\n| b | c |\n"
    body = cards.render_card(f"# Title\n\nLead.\n\n{table}\n{table}").body
    assert re.findall(r'aria-label="([^"]+)"', body) == ["table 1 of the card", "table 2 of the card"]
    assert "<th></th>" not in body


@pytest.mark.slow
def test_axe_finds_nothing_on_the_first_page_and_a_methods_page(own_copy: Plan, tmp_path: Path):
    if not AXE.is_file():
        pytest.skip("axe-core is not on this machine (Debian: node-axe-core)")
    program = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    run = """
        document.querySelectorAll("details").forEach(block => block.open = true);
        const found = await axe.run(document);
        return [found.passes.length, found.violations.map(v => [v.id, v.nodes.map(n => n.html)])];
    """
    overview, _, method = render_pages(own_copy)[:3]
    for page in (overview, method):
        passes, violations = ask(page, f"{program};{run}", tmp_path)
        assert passes > 20
        assert violations == []
