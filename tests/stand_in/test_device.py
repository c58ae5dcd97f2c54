"""The stand-in raises where CUDA raises, and records where CUDA waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.stand_in.running import as_json, on_stand_in, waits_of
from tests.stand_in.waits import recorded

MIXED: dict[str, Callable[[torch.Tensor], Any]] = {
    "sum": lambda x: x + torch.ones(3),
    "sum of a host tensor": lambda x: torch.ones(3) + x[0],
    "in place on the host": lambda x: torch.ones(3).add_(x),
    "product": lambda x: x[None] @ torch.ones(3, 2),
    "concatenation": lambda x: torch.cat([x, torch.ones(1)]),
    "choice": lambda x: torch.where(torch.tensor([True, False, True]), x, x),
    "lookup": lambda x: torch.nn.functional.embedding(torch.tensor([0]), x[:, None]),
    "indices of index_select": lambda x: x.index_select(0, torch.tensor([1])),
    "a host tensor at indices of the device": lambda x: torch.ones(3)[x.long()],
    "a list of tensors": lambda x: torch._foreach_add([x], [torch.ones(3)]),
}
ALLOWED: dict[str, Callable[[torch.Tensor], Any]] = {
    "a host number": lambda x: (x + torch.tensor(1.0)).tolist(),
    "host indices": lambda x: x[torch.tensor([2, 0])].tolist(),
    "a copy": lambda x: torch.zeros(3, device=x.device).copy_(torch.tensor([4.0, 5.0, 6.0])).tolist(),
    "a copy back": lambda x: torch.zeros(3).copy_(x).tolist(),
    "tensors made there": lambda x: (
        torch.arange(3, device=x.device) + torch.full((3,), 2.0, device=x.device) + torch.zeros_like(x) + x.new_ones(3)
    ).tolist(),
}
WAITS: dict[str, tuple[Callable[[torch.Tensor], Any], list[str]]] = {
    "item": (lambda x: x[0].item(), ["read"]),
    "float": (lambda x: float(x[0]), ["read"]),
    "bool": (lambda x: bool((x > 0).all()), ["read"]),
    "tolist": (lambda x: x.tolist(), ["read"]),
    "cpu": (lambda x: x.cpu(), ["read"]),
    "to": (lambda x: x.to("cpu", torch.float64), ["read"]),
    "nonzero": (lambda x: x.nonzero(), ["size"]),
    "boolean indexing": (lambda x: x[x > 1], ["size"]),
    "masked_select": (lambda x: x.masked_select(x > 1), ["size"]),
    "unique": (lambda x: x.unique(), ["size"]),
    "repeats": (lambda x: x.repeat_interleave(x.long()), ["size"]),
    "a tensor of numbers": (lambda x: torch.tensor([1.0], device=x.device), ["blocking copy"]),
    "to the device": (lambda x: torch.ones(1).to(x.device), ["blocking copy"]),
    "host indices": (lambda x: x[[0, 1]], ["blocking copy"]),
    "to the device, not waiting": (lambda x: torch.ones(1).to(x.device, non_blocking=True), []),
    "arithmetic": (lambda x: (x * 2 + 1).softmax(-1).sum(), []),
    "filling by a mask": (lambda x: x.clone().masked_fill_(x > 1, 0.0), []),
    "indices of the device": (lambda x: x[torch.arange(2, device=x.device)], []),
    "a type": (lambda x: x.to(torch.bfloat16), []),
    "synchronize": (lambda x: torch.cuda.synchronize(), ["synchronize"]),
}


def tell(device: torch.device) -> dict[str, Any]:
    """Try everything once, in the fork; return what was refused, computed and recorded."""
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    refused, waits = {}, {}
    for name, mix in MIXED.items():
        try:
            refused[name] = f"no error, but {mix(x)}"
        except RuntimeError as error:
            refused[name] = str(error)
    for name, (wait, _) in WAITS.items():
        with recorded() as crossings:
            wait(x)
        waits[name] = [one.kind for one in crossings if one.waits]
    with recorded() as crossings:
        torch.equal(x, x)
        _through_instil(x)
    weight = torch.nn.Parameter(torch.ones(3, device=device))
    (weight * x).sum().backward()
    pair = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    pair["b"].weight = pair["a"].weight
    pair.to(device)
    tied = pair["a"].weight is pair["b"].weight
    pair["a"].weight.data = pair["a"].weight.data.to(torch.bfloat16)
    return {
        "device": str(x.device),
        "refused": refused,
        "allowed": {name: compute(x) for name, compute in ALLOWED.items()},
        "waits": waits,
        "lines": [str(one["line"]).partition(":")[0] for one in as_json(crossings)],
        "words": waits_of(as_json(crossings)),
        "gradient": weight.grad.tolist(),  # type: ignore[union-attr]
        "tied": tied,
        "type": str((pair["b"].weight + 1).dtype),
    }


def _through_instil(x: torch.Tensor) -> None:
    from instil.model.loss.token_loss import TokenLoss

    TokenLoss._trained_rows(_NoShapes(), x, None)  # type: ignore[arg-type]


class _NoShapes:
    few_shapes = False


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    answer: dict[str, Any] = on_stand_in(tell)
    return answer


@pytest.mark.slow
def test_tensors_of_two_devices_do_not_mix(told: dict[str, Any]):
    assert told["device"] == "standin:0"
    unrefused = {name: said for name, said in told["refused"].items() if "device" not in said and "on cpu" not in said}
    assert unrefused == {}
    assert not [said for said in told["refused"].values() if said.startswith("no error")]


@pytest.mark.slow
def test_what_cuda_allows_of_host_tensors_is_allowed_and_computed(told: dict[str, Any]):
    assert told["allowed"] == {
        "a host number": [2.0, 3.0, 4.0],
        "host indices": [3.0, 1.0],
        "a copy": [4.0, 5.0, 6.0],
        "a copy back": [1.0, 2.0, 3.0],
        "tensors made there": [3.0, 4.0, 5.0],
    }


@pytest.mark.slow
def test_every_wait_is_recorded_and_nothing_else(told: dict[str, Any]):
    assert told["waits"] == {name: expected for name, (_, expected) in WAITS.items()}


@pytest.mark.slow
def test_a_wait_is_recorded_with_its_line_in_instil(told: dict[str, Any]):
    assert told["lines"] == ["", "model/loss/token_loss.py"]
    assert told["words"][1].startswith("size (aten.nonzero.default) at model/loss/token_loss.py:")
    assert "tests/stand_in/test_device.py" not in told["words"][1]


@pytest.mark.slow
def test_gradients_ties_and_new_content_of_parameters_are_those_of_a_real_device(told: dict[str, Any]):
    assert told["gradient"] == [1.0, 2.0, 3.0]
    assert told["tied"]
    assert told["type"] == "torch.bfloat16"
