"""Rows that come while others are in the middle of their answers get the answers that they get alone."""

from __future__ import annotations

import pytest
import torch
from tests.generation.tiny import random_prompts, steps_of, tiny_model

from instil.errors import GenerationError
from instil.generation.decoding import Decoder, answering
from instil.generation.rows import make_rows
from instil.generation.running_batch import RunningBatch
from instil.generation.sampling import generate_batch
from instil.generation.settings import SamplingSettings

GREEDY = SamplingSettings(max_new_tokens=12)
STOPS = (2,)
SETTINGS = (
    GREEDY,
    SamplingSettings(temperature=1.0, seed=3, max_new_tokens=9),
    SamplingSettings(temperature=1.5, top_p=0.8, seed=4, max_new_tokens=12),
    SamplingSettings(repetition_penalty=1.5, max_new_tokens=7),
    SamplingSettings(temperature=1.0, min_p=0.05, top_k=20, presence_penalty=1.0, seed=5, max_new_tokens=12),
    SamplingSettings(frequency_penalty=1.5, max_new_tokens=12),
)
"""Greedy, drawn and penalised rows."""


def one_by_one(model, rows, *, steps=None, every=1) -> int:
    """Let a row join at each step, as far as the batch takes it; return the largest number of rows together."""
    batch, waiting, most, number = RunningBatch(model, stop_ids=STOPS, steps=steps), list(rows), 0, 0
    with answering(model):
        while waiting or batch.rows:
            if waiting and batch.takes_more and number % every == 0:
                batch.add([waiting.pop(0)])
            number += 1
            most = max(most, len(batch.rows))
            if batch.rows:
                batch.choose()
                batch.step()
    return most


CASES = [
    ("llama", True),
    ("llama", False),
    ("qwen3", True),
    ("mistral", False),
    ("gemma3_text", False),
    ("gpt2", False),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "plain"), CASES)
@pytest.mark.parametrize("every", [1, 4])
def test_a_row_that_joins_or_is_joined_loses_no_token(kind, plain, every):
    model, prompts = tiny_model(kind), random_prompts(6)
    steps = steps_of(model) if plain else None
    alone, rows = [], []
    for prompt, settings in zip(prompts, SETTINGS, strict=True):
        alone += generate_batch(model, [prompt], settings=settings, stop_ids=STOPS)
        rows += make_rows(model, [prompt], settings=settings, decode=None)
    assert one_by_one(model, rows, steps=steps, every=every) > 1
    assert [row.result() for row in rows] == alone


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3_text", "gpt2"])
def test_rows_that_come_and_go_leave_no_columns_behind(kind, monkeypatch):
    """The cache had a column more with every token, for as long as one row was in progress."""
    model, prompts, widths = tiny_model(kind), random_prompts(40), []
    own = Decoder.step

    def step(self, tokens):
        logits = own(self, tokens)
        widths.append(max(layer.keys.shape[-2] for layer in self._cache.layers))
        return logits

    alone = [generate_batch(model, [prompt], settings=GREEDY, stop_ids=STOPS)[0] for prompt in prompts]
    rows = [make_rows(model, [prompt], settings=GREEDY, decode=None)[0] for prompt in prompts]
    monkeypatch.setattr(Decoder, "step", step)
    assert one_by_one(model, rows, every=3) > 2
    assert len(widths) > 100
    assert max(widths) <= max(map(len, prompts)) + GREEDY.max_new_tokens
    assert [row.result() for row in rows] == alone


def test_a_model_with_states_takes_rows_only_when_it_is_idle():
    model = tiny_model("lfm2")
    rows = [make_rows(model, [prompt], settings=GREEDY, decode=None)[0] for prompt in random_prompts(3)]
    assert one_by_one(model, rows) == 1
    expected = generate_batch(model, [row.prompt for row in rows], settings=GREEDY, stop_ids=STOPS)
    assert [row.result() for row in rows] == expected


def test_log_probabilities_are_kept_for_the_rows_that_ask():
    model = tiny_model()
    prompts = random_prompts(3)
    rows = [
        make_rows(model, [prompt], settings=GREEDY, decode=None, num_top=num_top)[0]
        for prompt, num_top in zip(prompts, (None, 0, 3), strict=True)
    ]
    one_by_one(model, rows)
    assert [len(row.logprobs) for row in rows] == [0, len(rows[1].ids), len(rows[2].ids)]
    assert {len(one.top) for one in rows[1].logprobs} == {0}
    assert {len(one.top) for one in rows[2].logprobs} == {3}
    (alone,) = generate_batch(model, [prompts[2]], settings=GREEDY, stop_ids=STOPS, top_logprobs=3)
    assert [one.token_id for one in alone.logprobs] == [one.token_id for one in rows[2].logprobs]
    for one, other in zip(alone.logprobs, rows[2].logprobs, strict=True):
        assert abs(one.logprob - other.logprob) < 1e-4


def test_a_form_that_cannot_go_on_ends_its_own_row_only():
    class Stuck:
        num_taken = 0

        def apply(self, logits: torch.Tensor) -> torch.Tensor:
            if self.num_taken == 2:
                raise GenerationError("form: the answer cannot go on")
            return logits

        def take(self, token: int) -> None:
            self.num_taken += 1

    model, prompts = tiny_model(), random_prompts(2)
    rows = [make_rows(model, [prompt], settings=GREEDY, decode=None)[0] for prompt in prompts]
    rows[0].matcher = Stuck()  # type: ignore[assignment]
    one_by_one(model, rows)
    assert "cannot go on" in str(rows[0].error)
    assert len(rows[0].ids) == 2
    (alone,) = generate_batch(model, [prompts[1]], settings=GREEDY, stop_ids=STOPS)
    assert rows[1].error is None
    assert rows[1].result() == alone
