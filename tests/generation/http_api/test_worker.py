"""Which requests transformers' continuous batching answers, and which the package's own loop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.generation.tiny import tiny_model

from instil.generation.http_api.worker import Worker
from instil.generation.settings import SamplingSettings

pytestmark = pytest.mark.filterwarnings("ignore")


def started(kind):
    worker = Worker(SimpleNamespace(model=tiny_model(kind), stop_ids=(2,)), cache_tokens=512)
    worker.start()
    return worker


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "why"), [("llama", None), ("gemma2", "soft cap"), ("lfm2", "states")])
def test_models_that_pages_would_serve_wrongly_are_answered_one_by_one(kind, why):
    worker = started(kind)
    try:
        assert worker.alive
        assert worker.why_single is None if why is None else why in worker.why_single
    finally:
        worker.stop()


def test_batches_start_with_no_warning_that_nothing_ends_an_answer(caplog, monkeypatch):
    from transformers.generation.continuous_batching import continuous_api

    monkeypatch.setattr(continuous_api.logger, "handlers", [caplog.handler])
    worker = started("llama")
    try:
        assert worker.alive
        assert "eos_token_id" not in caplog.text
    finally:
        worker.stop()


def test_an_end_without_a_request_is_no_warning(caplog, monkeypatch):
    from transformers.generation.continuous_batching import continuous_api

    monkeypatch.setattr(continuous_api.logger, "handlers", [caplog.handler])
    monkeypatch.setattr(continuous_api.logger, "level", continuous_api.logger.level)
    started("llama").stop()
    assert "not initialized" not in caplog.text


def test_a_seed_is_refused_only_where_the_batches_hold_the_model(monkeypatch):
    worker = started("llama")
    try:
        drawn, greedy = SamplingSettings(temperature=1.0, seed=3), SamplingSettings(seed=3)
        monkeypatch.setattr(worker, "_holds_model", True)
        assert "Leave them out" in worker.refusal(drawn)
        assert worker.refusal(greedy) is None
        monkeypatch.setattr(worker, "_holds_model", False)
        assert worker.refusal(drawn) is None
    finally:
        worker.stop()
