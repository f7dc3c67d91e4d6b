from __future__ import annotations

import numpy as np
import torch

from vosrepro.lab.parts import classify_table, frame_table, match_table, paste_table

CPU = torch.device("cpu")


def test_matching_at_once_equals_a_loop_and_both_are_timed():
    rows = match_table(CPU, parts=3, width=8, template=5, search=9, repeat=1)
    assert [row["way"] for row in rows] == [
        "at once",
        "part by part",
        "a crop per part",
        "correlation at once",
        "correlation part by part",
    ]
    assert all(row["seconds"] > 0 for row in rows)


def test_joining_frames_and_classification_are_timed():
    assert paste_table(CPU, parts=3, repeat=1)[1]["times_the_first"] > 0
    rows = frame_table(CPU, size="mini", parts=1, precision="fp32", repeat=1)
    assert [row["parts"] for row in rows] == [2, 6]
    rows = classify_table(CPU, size="mini", batch=2, precision="fp32", repeat=1)
    assert all(np.isfinite(row["images_per_second"]) for row in rows)
