from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.model.tiny import tiny_model

from instil.model.attention import flat
from instil.model.attention.layout import FlatLayout, set_active_layout


class Watched(torch.autograd.Function):
    """A kernel that notes how torch is set while its backward pass runs."""

    seen: list[tuple[bool, bool]]

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return query.transpose(1, 2) * 1.0

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        Watched.seen.append(
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
        )
        gradient = gradients[0].transpose(1, 2)
        return gradient, gradient, gradient


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    set_active_layout(None)


def backward_through_two_layers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """Return for each attention layer whether torch was deterministic in its backward pass, and whether it only warned."""
    Watched.seen = []
    monkeypatch.setattr(
        flat, "attend_by_example", lambda query, key, value, *, layout, features: Watched.apply(query, key, value)
    )
    layers = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)]
    layout, states = FlatLayout.of([2, 3]), torch.ones(1, 5, 8)
    for layer in layers:
        heads = layer(states).reshape(1, 5, 2, 4).transpose(1, 2)
        output, _ = flat.attend(torch.nn.Module(), heads, heads, heads, None, instil_layout=layout)
        states = output.reshape(1, 5, 8)
    states.sum().backward()
    return Watched.seen


def test_torch_raises_in_the_backward_pass_of_attention_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch only warns, its attention kernels on CUDA give other bits in each run."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert backward_through_two_layers(monkeypatch) == [(True, False)] * 2
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_a_run_without_deterministic_kernels_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backward_through_two_layers(monkeypatch) == [(False, False)] * 2
    assert not torch.are_deterministic_algorithms_enabled()


def test_gradients_are_the_same_bits_with_and_without() -> None:
    model = tiny_model("llama").train()
    found = []
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        set_active_layout(FlatLayout.of([4, 3]))
        states = model.model(
            input_ids=torch.arange(7)[None], position_ids=torch.tensor([[0, 1, 2, 3, 0, 1, 2]]), use_cache=False
        ).last_hidden_state
        found.append(torch.autograd.grad(states.square().sum(), list(model.model.parameters())))
    assert len(found[0]) > 5
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))
