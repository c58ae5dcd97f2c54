"""What is kept of texts that were read: the logits behind a reused beginning are those of a prompt read whole."""

from __future__ import annotations

import threading

import pytest
import torch
from tests.generation.tiny import steps_of, tiny_model

from instil.generation.decoder import prefixes
from instil.generation.decoder.plain import PlainRows
from instil.generation.decoder.prefixes import LEAST_TOKENS, Prefixes
from instil.generation.decoder.slots import Slots
from instil.generation.decoder.steps import Steps
from instil.generation.sampling import generate_batch, stream
from instil.generation.settings import SamplingSettings

KINDS = ("llama", "qwen3")
PLENTY = 10_000_000


def keeping_steps(kind: str, most_bytes: int = PLENTY) -> Steps:
    steps = steps_of(tiny_model(kind))
    steps.prefixes = Prefixes(most_bytes)
    return steps


def ids_of(length: int, seed: int) -> list[int]:
    return torch.randint(3, 97, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def close(logits: torch.Tensor, kind: str, ids: list[int]) -> bool:
    """Return whether logits are those of the model's own forward over a whole text, to 1e-5 of the largest."""
    with torch.no_grad():
        expected = tiny_model(kind)(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return bool((logits - expected).abs().max() <= 1e-5 * expected.abs().max())


def turn(steps: Steps, kind: str, prompt: list[int], answer: list[int]) -> int:
    """Answer a prompt with given tokens, each logit checked; return how many tokens of the prompt were reused."""
    rows, text = PlainRows(steps), list(prompt)
    assert close(rows.add([prompt])[0], kind, text)
    for token in answer:
        text.append(token)
        assert close(rows.step(torch.tensor([token]))[0], kind, text)
    rows.keep([])
    return rows.num_reused[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_turn_computes_only_what_is_new_and_has_the_same_logits(kind):
    steps, text = keeping_steps(kind), ids_of(20, 0)
    for number in range(4):
        answer = ids_of(6, 100 + number)
        reused = turn(steps, kind, text, answer)
        assert reused == (0 if number == 0 else len(text) - 7)
        text = [*text, *answer, *ids_of(7, 200 + number)]
    assert turn(steps, kind, text[:-7], []) == len(text) - 8  # at least the last token is read


@pytest.mark.parametrize("kind", KINDS)
def test_an_edited_history_reuses_what_comes_before_the_edit(kind):
    steps, text = keeping_steps(kind), ids_of(60, 1)
    turn(steps, kind, text, [5, 6])
    edited = [*text[:40], 3 if text[40] != 3 else 4, *text[41:], 7]
    assert turn(steps, kind, edited, [8, 9]) == 40
    # Both texts are still known.
    assert turn(steps, kind, [*text, 5, 6, 11], []) == 62
    assert turn(steps, kind, [*edited, 8, 9, 11], []) == 63


@pytest.mark.parametrize("kind", KINDS)
def test_conversations_that_take_turns_keep_their_own_texts(kind):
    steps, texts = keeping_steps(kind), [ids_of(25, 2), ids_of(30, 3)]
    for number in range(3):
        for at, text in enumerate(texts):
            answer = ids_of(4, 10 * number + at)
            assert turn(steps, kind, text, answer) == (len(text) - 5 if number else 0)
            texts[at] = [*text, *answer, *ids_of(5, 50 + 10 * number + at)]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_batch_start_from_different_places(kind):
    steps, known = keeping_steps(kind), ids_of(50, 4)
    turn(steps, kind, known, [])
    prompts = [[*known, 7, 8], ids_of(9, 5), [*known[:30], 3, *known[30:]], known[:20]]
    rows = PlainRows(steps)
    logits = rows.add(prompts)
    assert rows.num_reused == [50, 0, 30, 19]
    assert all(close(row, kind, prompt) for row, prompt in zip(logits, prompts, strict=True))
    # The third leaves in the middle, the last one takes its slot, and a further prompt takes up what it left.
    rows.keep([0, 1, 3])
    prompts = [prompts[0], prompts[1], prompts[3]]
    for token in (9, 10):
        prompts = [[*prompt, token] for prompt in prompts]
        logits = rows.step(torch.tensor([token] * 3))
        assert all(close(row, kind, prompt) for row, prompt in zip(logits, prompts, strict=True))
    late = [*known[:30], 3, *known[30:], 12]
    assert close(rows.add([late])[0], kind, late)
    assert rows.num_reused == [51]


def test_the_least_recently_used_text_leaves_at_the_limit_of_bytes():
    token = keeping_steps("llama").slots().token_bytes
    steps = keeping_steps("llama", 100 * token)
    first, second, third = (ids_of(40, seed) for seed in (6, 7, 8))
    turn(steps, "llama", first, [])
    turn(steps, "llama", second, [])
    assert turn(steps, "llama", [*first, 5], []) == 40  # 41 tokens in place of 40
    assert steps.prefixes.num_bytes == 81 * token
    turn(steps, "llama", third, [])
    assert steps.prefixes.num_bytes == 81 * token
    assert turn(steps, "llama", [*second, 5], []) == 0
    assert turn(steps, "llama", [*third, 5], []) == 40


def test_of_a_text_beyond_the_limit_its_beginning_is_kept():
    token = keeping_steps("llama").slots().token_bytes
    steps, text = keeping_steps("llama", 30 * token), ids_of(50, 9)
    turn(steps, "llama", text, [])
    assert steps.prefixes.num_bytes == 30 * token
    assert turn(steps, "llama", text, []) == 30
    steps = keeping_steps("llama", (LEAST_TOKENS - 1) * token)
    turn(steps, "llama", text, [])
    assert steps.prefixes.num_bytes == 0


def test_the_number_of_texts_has_a_limit(monkeypatch):
    monkeypatch.setattr(prefixes, "_MOST_TEXTS", 2)
    steps = keeping_steps("llama")
    for seed in range(3):
        turn(steps, "llama", ids_of(20, seed), [])
    assert [turn(steps, "llama", [*ids_of(20, seed), 5], []) for seed in (0, 2)] == [0, 20]


def test_a_few_common_tokens_are_read_again():
    steps, text = keeping_steps("llama"), ids_of(40, 10)
    turn(steps, "llama", text, [])
    assert turn(steps, "llama", [*text[: LEAST_TOKENS - 1], 3, 4, 5], []) == 0
    assert turn(steps, "llama", [*text[:LEAST_TOKENS], 3, 4, 5], []) == LEAST_TOKENS


def test_without_a_store_nothing_is_reused():
    steps, text = keeping_steps("llama"), ids_of(40, 11)
    steps.prefixes = None
    turn(steps, "llama", text, [])
    assert turn(steps, "llama", [*text, 5], []) == 0


def test_batches_of_several_calls_share_and_an_answer_that_is_broken_off_is_kept_too():
    model, steps, prompt = tiny_model("llama"), keeping_steps("llama"), ids_of(30, 12)
    settings = SamplingSettings(max_new_tokens=12)
    given = {"settings": settings, "stop_ids": ()}
    expected = generate_batch(model, [prompt, [*prompt, 5, 6]], **given)
    pieces = iter(stream(model, prompt, decode=lambda ids: "x" * len(ids), steps=steps, **given))
    next(pieces)
    pieces.close()
    seen = []
    copy = Prefixes.copy_to
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prefixes, "copy_to", lambda *work: seen.append(copy(*work)) or seen[-1])
        assert generate_batch(model, [prompt, [*prompt, 5, 6]], steps=steps, **given) == expected
    assert sorted(seen) == [29, 30]


def test_threads_may_share_a_store():
    slots = Slots(1, num_heads=1, width=2, dtype=torch.float32)
    slots.reserve(1, 40)
    slots.lengths = [40]
    store, failures = Prefixes(200 * slots.token_bytes), []

    def work(seed: int) -> None:
        try:
            for number in range(100):
                store.keep(slots, 0, ids_of(40, 100 * seed + number))
                assert store.copy_to(slots_of[seed], 0, ids_of(40, number)) in (0, 39)
        except Exception as error:
            failures.append(error)

    slots_of = []
    for _ in range(3):
        one = Slots(1, num_heads=1, width=2, dtype=torch.float32)
        one.reserve(1, 40)
        one.lengths = [0]
        slots_of.append(one)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.num_bytes == 200 * slots.token_bytes
