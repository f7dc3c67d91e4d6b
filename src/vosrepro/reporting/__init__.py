"""The report: HTML pages, metrics.json and CSV files, rendered from files only."""

from __future__ import annotations

from vosrepro.reporting.pages.pages import load_table, metrics, render_pages

__all__ = ["load_table", "metrics", "render_pages"]
