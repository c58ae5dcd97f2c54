"""Which requests go to this package's batch, and which to transformers' pages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.generation.tiny import tiny_model

from instil.generation.http_api.batch_thread import Logprobs
from instil.generation.http_api.worker import Worker
from instil.generation.settings import SamplingSettings

DRAWN = SamplingSettings(temperature=1.0, seed=3)


def worker_of(pages=None):
    worker = Worker(SimpleNamespace(model=tiny_model(), stop_ids=(2,), steps=None), cache_tokens=512)
    assert worker._pages is None  # on a CPU
    worker._pages = pages
    worker._batch = SimpleNamespace(generate=lambda *_, **__: "batch", alive=True)
    return worker


def test_a_cpu_answers_every_request_in_one_batch():
    worker = worker_of()
    assert worker.generate([5], SamplingSettings()) == "batch"
    assert worker.generate([5], DRAWN) == "batch"
    assert worker.refusal(DRAWN, alone=True) is None


@pytest.mark.parametrize(
    ("settings", "given", "way"),
    [
        (SamplingSettings(), {}, "pages"),
        (SamplingSettings(seed=3), {}, "pages"),  # greedy: a seed changes nothing
        (SamplingSettings(temperature=1.0), {}, "pages"),
        (DRAWN, {}, "batch"),
        (SamplingSettings(frequency_penalty=1.0), {}, "batch"),
        (SamplingSettings(), {"logprobs": Logprobs(1)}, "batch"),
    ],
)
def test_pages_get_what_they_can_do_for_each_request(settings, given, way):
    pages = SimpleNamespace(generate=lambda *_: "pages", holds_model=False, alive=True)
    assert worker_of(pages).generate([5], settings, **given) == way


def test_a_seed_is_refused_only_where_the_pages_hold_the_model():
    pages = SimpleNamespace(holds_model=True, alive=True)
    worker = worker_of(pages)
    assert "Leave them out" in worker.refusal(DRAWN)
    assert worker.refusal(SamplingSettings(seed=3)) is None
    pages.holds_model = False
    assert worker.refusal(DRAWN) is None


def test_the_room_of_a_prompt_is_what_context_and_cache_leave():
    worker = worker_of()
    assert worker.room([5] * 200) == 56  # a context of 256
    worker._cache_tokens = 164
    assert worker.room([5] * 50) == 50
