"""Times and sizes as people read them."""

import pytest

from vosrepro.base.units import duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (1, "1.0 s"),
        (119.9, "119.9 s"),
        (120, "2.0 min"),
        (7199, "120.0 min"),
        (7300, "2.0 h"),
        (359_999, "100.0 h"),
        (360_000, "4.2 d"),
    ],
)
def test_a_time_has_the_unit_that_leaves_few_digits(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "?"), (0, "0.0 MB"), (999_000_000, "999.0 MB"), (1_234_000_000, "1.2 GB")]
)
def test_a_size_counts_powers_of_ten(count, text):
    assert size(count) == text


def test_what_is_not_known_is_written_as_the_place_writes_it():
    assert duration(None, unknown="–") == size(None, unknown="–") == "–"
