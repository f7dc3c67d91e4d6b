"""A method's card (methods/<method>/README.md) as HTML for the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from vosrepro.base.types import Method

_METHODS = Path(__file__).parents[2] / "methods"


@dataclass(frozen=True)
class Card:
    """A rendered card: its first paragraph, and everything below its title."""

    lead: Markup
    body: Markup


def load_card(method: str) -> Card:
    """Read and render the card of a method; of one from another package, what it says of itself."""
    path = _METHODS / method.replace("-", "_") / "README.md"
    if path.is_file():
        return render_card(path.read_text(encoding="utf-8"))
    from vosrepro.methods import get_method

    return card_of(get_method(method))


def card_of(method: Method) -> Card:
    """The idea of a method, and where it was published."""
    paper, where = method.paper, ""
    if paper is not None:
        code = f"; code: [{paper.code}](https://github.com/{paper.code})" if paper.code else ""
        where = f"\n\n[{paper.title}]({paper.url}), {paper.venue}{code}."
    return render_card(method.summary + where)


def render_card(text: str) -> Card:
    """Render CommonMark with tables; raw HTML and pictures are shown as text, local links as words."""
    text = re.sub(r"\A\s*# [^\n]*\n", "", text)
    paragraphs = re.split(r"\n\s*\n", text.strip())
    lead = next((p for p in paragraphs if re.match(r"\w|\*\*", p)), "")
    lead = re.sub(r"\A\*\*Idea\.\*\*\s*", "", lead)
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        return Card(escape(lead), Markup("<pre>{}</pre>").format(text))
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("link_close", _link_close)
    parser.add_render_rule("heading_open", _heading)
    parser.add_render_rule("heading_close", _heading)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", _table_close)
    body = re.sub(r"<th([^>]*)></th>", r"<td\1></td>", parser.render(text))  # a corner without words heads nothing
    return Card(Markup(parser.renderInline(lead)), Markup(body))


def _link_open(_self: Any, tokens: Sequence[Any], index: int, _options: Any, env: Any) -> str:
    target = str(tokens[index].attrGet("href") or "")
    outside = target.startswith(("https://", "http://"))
    env.setdefault("links", []).append(outside)
    return f'<a href="{escape(target)}" rel="noopener">' if outside else "<span>"


def _link_close(_self: Any, _tokens: Any, _index: int, _options: Any, env: Any) -> str:
    return "</a>" if env["links"].pop() else "</span>"


def _heading(_self: Any, tokens: Sequence[Any], index: int, _options: Any, _env: Any) -> str:
    token = tokens[index]
    level = min(int(token.tag[1]) + 1, 6)
    return f"<h{level}>" if token.nesting > 0 else f"</h{level}>\n"


def _table_open(_self: Any, _tokens: Any, _index: int, _options: Any, env: Any) -> str:
    env["tables"] = number = env.get("tables", 0) + 1
    return f'<div class="scroll" tabindex="0" role="region" aria-label="table {number} of the card"><table>\n'


def _table_close(*_: Any) -> str:
    return "</table></div>\n"
