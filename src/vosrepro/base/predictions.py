"""The table of a classifier's predictions: what inference writes and scoring reads."""

from __future__ import annotations

#: How many classes a line has.
PLACES = 5
#: Name of a class before the data's, which some weights know.
BACKGROUND = "background"
COLUMNS = ("image", *(f"{what}_{n}" for n in range(1, PLACES + 1) for what in ("class", "score")))
