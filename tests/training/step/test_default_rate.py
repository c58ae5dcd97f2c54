"""Claims about the default learning rate: it falls with size, LoRA's is ten times higher, and published rates are near."""

from __future__ import annotations

import pytest

from instil.training.step.default_rate import default_rate

PUBLISHED = {
    # adapter, parameters: the lowest and the highest published rate (docs/how-it-works/training.md)
    ("none", 135_000_000): (3e-4, 1e-3),
    ("none", 360_000_000): (3e-4, 1e-3),
    ("none", 1_700_000_000): (3e-5, 3e-4),
    ("none", 8_000_000_000): (5e-6, 3e-5),
    ("none", 70_000_000_000): (2e-6, 2e-5),
    ("lora", 1_240_000_000): (2e-4, 5e-4),
    ("lora", 7_000_000_000): (1e-4, 3e-4),
    ("lora", 65_000_000_000): (1e-4, 2e-4),
}


@pytest.mark.parametrize(("case", "between"), PUBLISHED.items())
def test_the_default_is_within_four_times_of_published_rates(case, between):
    rate = default_rate(*case).value
    assert between[0] / 4 <= rate <= between[1] * 4


def test_the_default_falls_with_the_size_and_has_a_limit():
    for adapter in ("none", "lora"):
        rates = [default_rate(adapter, 10**power).value for power in range(3, 13)]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] == rates[1]
    assert default_rate("lora", 7 * 10**9).value == pytest.approx(10 * default_rate("none", 7 * 10**9).value, rel=0.05)


def test_the_words_name_what_the_rate_is_for():
    assert default_rate("none", 3_000_000).words == "full fine-tuning of 3.0M parameters"
    assert default_rate("lora", 8_000_000_000).words == "LoRA of 8.0B parameters"


def test_adafactor_has_a_rate_of_its_own():
    assert default_rate("none", 7_000_000_000, optimizer="adafactor").value == pytest.approx(1e-3, rel=0.05)
    assert default_rate("none", 3_000_000, optimizer="adafactor").value == 1e-2
    same = {default_rate("lora", 10**9, optimizer=name) for name in ("adamw", "adamw_8bit", "muon")}
    assert len(same) == 1
