"""Claims about `units`: how numbers are written for people."""

from __future__ import annotations

import subprocess
import sys

import pytest

from instil.units import byte_size, counted, duration, short_count


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (999, "999 rows"), (1000, "1,000 rows"), (1234567, "1,234,567 rows")],
)
def test_only_one_is_singular(number: int, text: str):
    assert counted(number, "row") == text


def test_an_irregular_plural_is_taken_as_it_is():
    assert [counted(number, "reply", "replies") for number in (0, 1, 2)] == ["0 replies", "1 reply", "2 replies"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (999_949, "999.9k"), (10**6, "1.0M"), (1_234_567_890, "1.2B")],
)
def test_large_numbers_have_one_decimal_and_a_letter(number: int, text: str):
    assert short_count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (5_500, "5.4 kB"),
        (300_000, "293 kB"),
        (2**20 - 1, "1 MB"),
        (2**20, "1 MB"),
        (565.4 * 2**20, "565 MB"),
        (2**30 - 2**20, "1023 MB"),
        (2**30, "1.0 GB"),
    ],
)
def test_a_size_is_in_kb_up_to_a_mb_and_in_mb_up_to_a_gb(number: float, text: str):
    assert byte_size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (3660, "1h01m"),
        (100 * 3600, "100h00m"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, text: str):
    assert duration(seconds) == text


def test_no_library_is_loaded():
    code = "import sys; import instil.units; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
