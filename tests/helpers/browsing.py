"""A page in a headless Chromium: what a script finds there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def chromium() -> str:
    """The browser; skips the test where there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


def flags(folder: Path) -> list[str]:
    """Of every call: nothing from the network, a profile of its own."""
    return [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        f"--user-data-dir={folder}/browser",
    ]


def ask(page: Path, script: str, folder: Path, *, width: int = 1280) -> Any:
    """What an asynchronous function's body returns in a page, as JSON.

    Args:
        page: the page; a copy beside it gets the script.
        script: the body; it may await.
        folder: for the browser's profile.
        width: of the window in pixels, 500 or more.
    """
    asking = (
        "<script>(async () => {" + script + "})().then(value => { const place = document.createElement('output');"
        "place.id = 'asked'; place.textContent = JSON.stringify(value); document.body.append(place); });</script>"
    )
    copy = page.with_name(f"asked-{page.name}")
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", asking + "</body>"), encoding="utf-8")
    call = [chromium(), *flags(folder), "--dump-dom", "--virtual-time-budget=4000", f"--window-size={width},900"]
    done = subprocess.run([*call, copy.resolve().as_uri()], capture_output=True, text=True, timeout=90, check=True)
    answer = re.search(r'<output id="asked">(.*?)</output>', done.stdout, re.S)
    assert answer, "the script did not finish"
    return json.loads(html.unescape(answer[1]))


def first_paint_ms(page: Path, folder: Path) -> float:
    """Milliseconds from the start of loading a page to its first picture, on the clock of the wall."""
    observed = (
        "<script>new PerformanceObserver(list => list.getEntries().forEach("
        "e => console.log(`${e.name}=${e.startTime};`))).observe({type: 'paint', buffered: true})</script>"
    )
    copy = page.with_name(f"observed-{page.name}")
    copy.write_text(page.read_text(encoding="utf-8").replace("<body", observed + "<body", 1), encoding="utf-8")
    call = [chromium(), *flags(folder), "--enable-logging=stderr", "--window-size=1280,900"]
    call += [f"--screenshot={folder}/painted.png", copy.resolve().as_uri()]
    done = subprocess.run(call, capture_output=True, text=True, timeout=90, check=True)
    copy.unlink()
    painted = re.search(r"first-contentful-paint=([\d.]+);", done.stderr)
    assert painted, "nothing was painted"
    return float(painted[1])
