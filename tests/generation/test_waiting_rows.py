"""Rows that wait take free places, within the memory of the batch, and answer as they do alone."""

from __future__ import annotations

import pytest
from tests.generation.tiny import random_prompts, steps_of, tiny_model

from instil.generation.rows import Row
from instil.generation.running_batch import RunningBatch
from instil.generation.sampling import generate_batch
from instil.generation.settings import SamplingSettings
from instil.generation.waiting_rows import WaitingRows

GREEDY = SamplingSettings(max_new_tokens=12)
STOPS = (2,)


def row(number: int, num_tokens: int, limit: int = 10) -> Row:
    return Row(number, [3] * num_tokens, settings=GREEDY, limit=limit, seed=0)


def batches(lengths, *, batch_tokens: int, max_rows: int = 128, leave: int) -> list[tuple[int, list[int]]]:
    """Each time that rows join: how many were there, and how long the prompts of those that join are.

    After each step so many rows leave.
    """
    waiting = WaitingRows(
        [row(number, length) for number, length in enumerate(lengths)], batch_tokens=batch_tokens, max_rows=max_rows
    )
    inside, joined = 0, []
    while waiting:
        if found := waiting.joining(inside):
            joined.append((inside, [len(one.prompt) for one in found]))
        inside = max(0, inside + len(found) - leave)
    return joined


def test_rows_join_the_longest_first_when_a_quarter_of_the_places_is_free():
    joined = batches([10] * 12 + [20] * 4, batch_tokens=240, leave=1)
    assert joined[0] == (0, [20, 20, 20, 20, 10, 10, 10, 10])
    assert joined[1:] == [(6, [10, 10]), (6, [10, 10]), (6, [10, 10]), (6, [10, 10])]


def test_a_batch_never_has_more_columns_than_the_memory():
    for leave in (1, 2, 5):
        widest = inside = 0
        for before, lengths in batches([3, 60, 30, 31, 8, 8, 8, 50, 2] * 5, batch_tokens=200, leave=leave):
            widest = max(lengths) if not before else max(widest, *lengths)
            inside = before + len(lengths)
            assert inside == 1 or inside * (widest + 10) <= 200


def test_one_long_prompt_does_not_keep_the_places_few():
    joined = batches([500] + [10] * 60, batch_tokens=600, leave=1)
    # The long one is alone. Short ones wait until it is done, and then have many places.
    assert joined[0] == (0, [500])
    assert joined[1] == (0, [10] * 30)


def test_a_row_longer_than_the_memory_and_a_model_without_a_common_cache_are_answered_one_by_one():
    assert batches([50, 60], batch_tokens=5, leave=1) == [(0, [60]), (0, [50])]
    assert batches([5] * 3, batch_tokens=1000, max_rows=1, leave=1) == [(0, [5])] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "plain"), [("llama", True), ("qwen3", True), ("llama", False), ("gpt2", False)])
def test_answers_are_those_of_prompts_alone_while_others_take_free_places(kind, plain, monkeypatch):
    model, prompts = tiny_model(kind), random_prompts(40)
    own, numbers = RunningBatch.add, []

    def add(self, rows):
        numbers.append(len(self.rows))
        own(self, rows)

    alone = [generate_batch(model, [prompt], settings=GREEDY, stop_ids=STOPS)[0] for prompt in prompts]
    monkeypatch.setattr(RunningBatch, "add", add)
    together = generate_batch(
        model,
        prompts,
        settings=GREEDY,
        stop_ids=STOPS,
        batch_tokens=8 * (20 + 12),
        steps=steps_of(model) if plain else None,
    )
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert numbers[0] == 0 < max(numbers)


def test_rows_of_a_model_with_states_wait_for_the_end_of_a_batch(monkeypatch):
    numbers, own = [], RunningBatch.add
    monkeypatch.setattr(RunningBatch, "add", lambda self, rows: (numbers.append(len(self.rows)), own(self, rows)))
    generate_batch(tiny_model("lfm2"), random_prompts(20), settings=GREEDY, stop_ids=STOPS, batch_tokens=8 * 32)
    assert set(numbers) == {0}
    assert len(numbers) > 2
