"""Fixtures shared by the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.training.base_and_rows import _one_thread, base, reference, rows  # noqa: F401 - fixtures
from tests.training.command_line import make_base
from tests.training.tiny import CPU, LearnerMaker, invented_examples, tiny_llama

from instil.conversation import Example
from instil.model.loss.token_loss import TokenLoss
from instil.preparation.store import ExampleStore
from instil.training.processes.ranks import Ranks
from instil.training.step.learner import Learner
from instil.training.step.optimizer import build_optimizers
from instil.training.step.precision import Weights, choose_precision
from instil.training.step.tensor_kinds import tensor_kinds


@pytest.fixture
def make_learner() -> LearnerMaker:
    def make(
        examples: list[Example],
        *,
        precision: str = "fp32",
        optimizer: str = "adamw",
        lr: float = 1e-2,
        weight_decay: float = 0.1,
        dropout: float = 0.0,
        neftune_alpha: float | None = None,
        one_by_one: bool = False,
        change: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model,
    ) -> Learner:
        model = change(tiny_llama(dropout=dropout)).train()
        chosen = choose_precision(precision, CPU)
        weights = Weights(model, chosen)
        kinds = tensor_kinds(model)
        optimizers = build_optimizers(weights.by_name, kinds, name=optimizer, lr=lr, weight_decay=weight_decay)
        loss = TokenLoss(model, neftune_alpha=neftune_alpha).train()
        store = ExampleStore.from_examples(examples)
        return Learner(loss, weights, optimizers, store, Ranks(0, 1, CPU), scaled=chosen.scaled, one_by_one=one_by_one)

    return make


@pytest.fixture
def examples() -> list[Example]:
    return invented_examples(11)


@pytest.fixture(scope="session")
def base_with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base-dropout"), dropout=0.2)
