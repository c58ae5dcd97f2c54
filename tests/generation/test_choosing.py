from __future__ import annotations

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from instil.errors import GenerationError
from instil.generation.choosing import Draws, choose
from instil.generation.settings import SamplingSettings

CASES = [
    SamplingSettings(temperature=0.7),
    SamplingSettings(temperature=1.3, top_k=5),
    SamplingSettings(temperature=1.0, top_p=0.8),
    SamplingSettings(temperature=0.9, top_k=7, top_p=0.6),
    SamplingSettings(temperature=1.1, min_p=0.2),
    SamplingSettings(temperature=1.0, top_k=9, top_p=0.9, min_p=0.1),
]


@pytest.mark.parametrize("settings", CASES)
def test_draws_follow_transformers_own_distribution(settings):
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)) * 2
    warped = TemperatureLogitsWarper(settings.temperature)(None, logits)
    if settings.top_k:
        warped = TopKLogitsWarper(settings.top_k)(None, warped)
    if settings.top_p < 1:
        warped = TopPLogitsWarper(settings.top_p)(None, warped)
    if settings.min_p:
        warped = MinPLogitsWarper(settings.min_p)(None, warped)
    expected = warped.softmax(-1)[0].double()
    num_draws, draws = 20_000, Draws(3)
    drawn = choose(logits.expand(num_draws, -1), settings, [draws] * num_draws)
    share = torch.bincount(drawn, minlength=12).double() / num_draws
    assert (share[expected == 0] == 0).all()
    assert (share - expected).abs().max() < 5 * (0.25 / num_draws) ** 0.5


def test_top_k_of_one_is_greedy_whatever_the_temperature():
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(1))
    chosen = choose(logits, SamplingSettings(temperature=3.0, top_k=1), [Draws(i) for i in range(8)])
    assert torch.equal(chosen, logits.argmax(-1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": 1.0},
        {"repetition_penalty": 0.0},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"num_answers": 0},
        {"stop": ("",)},
    ],
)
def test_a_setting_out_of_range_is_named(wrong):
    with pytest.raises(GenerationError, match=next(iter(wrong))):
        SamplingSettings(**wrong)
