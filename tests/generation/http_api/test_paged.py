"""Which models transformers' continuous batching runs, and that it starts and ends quietly."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from tests.generation.tiny import tiny_model, written_ids

from instil.generation.http_api.paged import PagedBatches
from instil.generation.sampling import generate_batch
from instil.generation.settings import SamplingSettings

pytestmark = pytest.mark.filterwarnings("ignore")


def started(kind):
    pages = PagedBatches(SimpleNamespace(model=tiny_model(kind), stop_ids=(2,)), cache_tokens=512)
    pages.start()
    return pages


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "why"), [("llama", None), ("gemma2", "soft cap"), ("lfm2", "states")])
def test_models_that_pages_would_serve_wrongly_are_refused(kind, why):
    pages = started(kind)
    try:
        assert pages.alive == (why is None)
        assert pages.refusal is None if why is None else why in pages.refusal
    finally:
        pages.stop()


def test_batches_start_with_no_warning_that_nothing_ends_an_answer(caplog, monkeypatch):
    from transformers.generation.continuous_batching import continuous_api

    monkeypatch.setattr(continuous_api.logger, "handlers", [caplog.handler])
    pages = started("llama")
    try:
        assert pages.alive
        assert "eos_token_id" not in caplog.text
    finally:
        pages.stop()


def test_an_end_without_a_request_is_no_warning(caplog, monkeypatch):
    from transformers.generation.continuous_batching import continuous_api

    monkeypatch.setattr(continuous_api.logger, "handlers", [caplog.handler])
    monkeypatch.setattr(continuous_api.logger, "level", continuous_api.logger.level)
    started("llama").stop()
    assert "not initialized" not in caplog.text


def test_a_page_answers_a_request_token_by_token():
    prompt, settings = [5, 6, 7, 8], SamplingSettings(max_new_tokens=8)

    async def collected():
        pages = started("llama")
        try:
            return [token async for token in pages.generate(prompt, settings)]
        finally:
            await asyncio.to_thread(pages.stop)

    (expected,) = generate_batch(tiny_model(), [prompt], settings=settings, stop_ids=(2,))
    assert asyncio.run(collected()) == written_ids(expected)
