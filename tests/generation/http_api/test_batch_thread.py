"""One thread answers all requests: a lone one, those that join it, and those that leave."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from tests.generation.tiny import random_prompts, steps_of, tiny_model, written_ids

from instil.errors import GenerationError
from instil.generation.decoder.prefixes import LEAST_TOKENS, Prefixes
from instil.generation.http_api import batch_thread
from instil.generation.http_api.batch_thread import BatchThread, Logprobs
from instil.generation.sampling import generate_batch
from instil.generation.settings import SamplingSettings

GREEDY = SamplingSettings(max_new_tokens=40)


class Engine(SimpleNamespace):
    """What the thread needs of an engine."""

    def __init__(self, kind: str = "llama", *, plain: bool = True) -> None:
        model = tiny_model(kind)
        super().__init__(model=model, stop_ids=(2,), steps=steps_of(model) if plain else None)

    def alone(self, prompt, settings) -> list[int]:
        (answer,) = generate_batch(self.model, [prompt], settings=settings, stop_ids=self.stop_ids)
        return written_ids(answer)


def answers(engine, work, *, cache_tokens: int = 4096):
    """Run a coroutine that is given a started thread."""

    async def whole():
        thread = BatchThread(engine, cache_tokens=cache_tokens)
        thread.start()
        try:
            return await asyncio.wait_for(work(thread), 120)
        finally:
            await asyncio.to_thread(thread.stop)

    return asyncio.run(whole())


async def collected(thread, prompt, settings, **given) -> list[int]:
    return [token async for token in thread.generate(prompt, settings, **given)]


@pytest.mark.parametrize(("kind", "plain"), [("llama", True), ("llama", False), ("mistral", False), ("lfm2", False)])
def test_a_second_request_joins_in_the_middle_and_no_token_is_lost(kind, plain):
    engine, prompts = Engine(kind, plain=plain), random_prompts(3)
    settings = [GREEDY, SamplingSettings(temperature=1.0, seed=1, max_new_tokens=30), GREEDY]

    async def work(thread):
        first = thread.generate(prompts[0], settings[0])
        begun = [await anext(first) for _ in range(5)]
        others = [asyncio.create_task(collected(thread, prompts[at], settings[at])) for at in (1, 2)]
        return [begun + [token async for token in first], *[await other for other in others]]

    assert answers(engine, work) == [engine.alone(prompt, one) for prompt, one in zip(prompts, settings, strict=True)]


def test_requests_wait_where_the_cache_is_full():
    engine, prompts = Engine(), random_prompts(5)
    seen = []

    class Watched(batch_thread.RunningBatch):
        def choose(self):
            seen.append(len(self.rows))
            return super().choose()

    async def work(thread):
        return await asyncio.gather(*(collected(thread, prompt, GREEDY) for prompt in prompts))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_thread, "RunningBatch", Watched)
        found = answers(engine, work, cache_tokens=130)
    assert found == [engine.alone(prompt, GREEDY) for prompt in prompts]
    assert max(seen) == 2  # rows of at most 60 tokens


def test_a_client_that_leaves_frees_its_place_and_disturbs_nobody():
    engine, prompts = Engine(), random_prompts(2)

    async def work(thread):
        leaving = thread.generate(prompts[0], SamplingSettings(max_new_tokens=200))
        await anext(leaving)
        staying = asyncio.create_task(collected(thread, prompts[1], GREEDY))
        await leaving.aclose()
        found = await staying
        while thread._running:
            await asyncio.sleep(0.01)
        return found

    assert answers(engine, work) == engine.alone(prompts[1], GREEDY)


def test_conversations_at_once_reuse_their_own_history_and_get_the_tokens_of_a_fresh_model():
    engine, fresh = Engine(), Engine()
    engine.steps.prefixes = Prefixes(10_000_000)
    settings, reused = SamplingSettings(max_new_tokens=10), {}

    async def talk(thread, number: int) -> None:
        text = random_prompts(1, longest=30, seed=number)[0] * 3
        for turn in range(4):
            read: list[int] = []
            found = await collected(thread, text, settings, on_read=read.append)
            assert found == fresh.alone(text, settings)
            reused[number, turn] = (len(text), *read)
            text = [*text, *found, 5 + number, 6 + turn]

    async def work(thread):
        await asyncio.gather(*(talk(thread, number) for number in range(4)))

    answers(engine, work)
    for number in range(4):
        for turn in range(1, 4):
            before, (_, count) = reused[number, turn - 1][0], reused[number, turn]
            assert before <= count < reused[number, turn][0] or before < LEAST_TOKENS


def test_log_probabilities_come_before_their_token():
    engine, prompt = Engine(), random_prompts(1)[0]

    async def work(thread):
        logprobs, counts = Logprobs(2), []
        async for token in thread.generate(prompt, GREEDY, logprobs=logprobs):
            counts.append((token, len(logprobs.entries) > len(counts) or token == 2))
        return counts, logprobs.entries

    counts, entries = answers(engine, work)
    assert all(there for _, there in counts)
    assert [entry.token_id for entry in entries] == [token for token, _ in counts if token != 2]


def test_a_failure_of_the_model_reaches_its_requests_and_the_thread_goes_on(monkeypatch):
    engine, prompt = Engine(), random_prompts(1)[0]

    async def work(thread):
        with monkeypatch.context() as patch:
            patch.setattr(batch_thread.RunningBatch, "step", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await collected(thread, prompt, GREEDY)
        with pytest.raises(GenerationError, match="no tokens"):
            await collected(thread, [], GREEDY)
        return await collected(thread, prompt, GREEDY)

    assert answers(engine, work) == engine.alone(prompt, GREEDY)


def test_a_thread_that_has_ended_says_so():
    engine = Engine()

    async def work():
        thread = BatchThread(engine, cache_tokens=512)
        thread.start()
        thread.stop()
        assert not thread.alive
        with pytest.raises(GenerationError, match="has ended"):
            await collected(thread, [5], GREEDY)

    asyncio.run(work())
