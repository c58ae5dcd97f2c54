"""Generation on the stand-in: the answers of the CPU, and one wait a decoding step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.stand_in.running import as_json, on_stand_in, waits_of
from tests.stand_in.waits import recorded
from tests.tiny_chat import tiny_llama

from instil.generation.sampling import SamplingSettings, generate_batch

ALONE = [[5, 6, 7, 8]]
PADDED = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
FEW, MANY = 2, 6
"""Tokens of a short and a long answer; what the long one waits more is what its further steps wait."""
WAYS: dict[str, tuple[dict[str, Any], int | None]] = {
    "greedy": ({"temperature": 0}, None),
    "top_p": ({"temperature": 0.8, "top_p": 0.9, "seed": 3}, None),
    "top_k with log-probabilities": ({"temperature": 1.0, "top_k": 5, "seed": 3}, 2),
    "penalties": ({"temperature": 0, "frequency_penalty": 0.5, "repetition_penalty": 1.2}, None),
}


def answered(device: torch.device, prompts: list[list[int]]) -> dict[str, Any]:
    """Answer prompts in every way; return ids and log-probabilities, and the waits of a short and a long answer."""
    model, told = tiny_llama().to(device), {}
    for name, (words, top) in WAYS.items():
        waits = []
        for length in (FEW, MANY):
            settings = SamplingSettings(max_new_tokens=length, **words)
            with recorded() as crossings:
                found = generate_batch(model, prompts, settings=settings, stop_ids=[258], top_logprobs=top)
            waits.append(as_json(crossings))
        told[name] = {
            "ids": [list(one.token_ids) for one in found],
            "logprobs": [
                value
                for one in found
                for item in one.logprobs
                for value in (item.logprob, *(logprob for _, logprob in item.top))
            ],
            "waits": waits,
        }
    return told


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    answer: dict[str, Any] = on_stand_in(lambda device: answered(device, ALONE))
    return answer


@pytest.fixture(scope="module")
def padded() -> dict[str, Any]:
    answer: dict[str, Any] = on_stand_in(lambda device: answered(device, PADDED))
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_answers_are_those_of_the_cpu(alone: dict[str, Any], padded: dict[str, Any], name: str):
    for told, prompts in ((alone, ALONE), (padded, PADDED)):
        here = answered(torch.device("cpu"), prompts)[name]
        assert told[name]["ids"] == here["ids"]
        assert all(len(ids) == MANY for ids in here["ids"])
        assert told[name]["logprobs"] == pytest.approx(here["logprobs"], abs=1e-5)
        assert bool(here["logprobs"]) == (WAYS[name][1] is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_a_decoding_step_waits_once(alone: dict[str, Any], name: str):
    few, many = (waits_of(crossings) for crossings in alone[name]["waits"])
    assert len(many) - len(few) == MANY - FEW, "\n".join(many)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_prompts_of_several_lengths_wait_once_more_in_the_masks_of_transformers(padded: dict[str, Any], name: str):
    """transformers looks whether the mask has padding, at each step."""
    few, many = (waits_of(crossings) for crossings in padded[name]["waits"])
    assert len(many) - len(few) == 2 * (MANY - FEW), "\n".join(many)
    assert sum("transformers/masking_utils.py" in wait for wait in many) >= MANY - 1
