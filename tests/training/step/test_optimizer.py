from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.model.tiny import tiny_model
from tests.training.tiny import tiny_llama

from instil.errors import InstilError, RecipeError
from instil.model.host_memory import host_state_of
from instil.training.step.optimizer import build_optimizers, left_to_adamw, read_state, write_state
from instil.training.step.tensor_kinds import tensor_kinds


def test_muon_without_a_matrix_is_refused_by_name():
    model = tiny_llama()
    vectors = {name: value for name, value in model.named_parameters() if value.ndim == 1}
    with pytest.raises(InstilError, match=r"^optimizer\.name: muon moves the matrices"):
        build_optimizers(vectors, tensor_kinds(model), name="muon", lr=1e-3)


def parts(optimizer: str) -> tuple[dict[str, torch.Tensor], list[torch.optim.Optimizer]]:
    model = tiny_llama()
    weights = dict(model.named_parameters())
    return weights, build_optimizers(weights, tensor_kinds(model), name=optimizer, lr=1e-2, weight_decay=0.5)


def test_norms_biases_and_embeddings_are_not_decayed():
    weights, (optimizer,) = parts("adamw")
    decays = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    assert len(decays) == len(weights)
    for name, weight in weights.items():
        assert decays[id(weight)] == (0.0 if "norm" in name or "embed" in name else 0.5), name


def test_muon_moves_the_matrices_inside_and_adamw_the_rest():
    weights, (muon, adamw) = parts("muon")
    moved = {id(weight) for group in muon.param_groups for weight in group["params"]}
    inside = {name for name, weight in weights.items() if id(weight) in moved}
    assert inside == {name for name in weights if "proj" in name}
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(weights) - len(inside)


def test_what_muon_leaves_to_adamw_inside_the_network_is_named():
    model = tiny_model("qwen3_moe")
    weights, kinds = dict(model.named_parameters()), tensor_kinds(model)
    left = left_to_adamw(weights, kinds, name="muon")
    assert left == [name for name in weights if "experts" in name]
    assert len(left) == 4
    assert left_to_adamw(weights, kinds, name="adamw") == []


@pytest.mark.parametrize("name", ["adamw", "muon", "adafactor"])
def test_state_taken_apart_and_put_back_moves_weights_to_the_same_bits(name: str):
    torch.manual_seed(0)
    (one, first), (other, second) = parts(name), parts(name)
    gradients = {key: torch.randn_like(weight) for key, weight in one.items()}

    def step(weights: dict[str, torch.Tensor], optimizers: list[torch.optim.Optimizer], sign: float) -> None:
        for key, weight in weights.items():
            weight.grad = gradients[key] * sign
        for optimizer in optimizers:
            optimizer.step()

    step(one, first, 1.0)
    tensors, numbers = read_state(first, one)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    with torch.no_grad():
        for key, weight in other.items():
            weight.copy_(one[key])
    write_state(second, other, tensors=tensors, numbers=numbers)
    step(one, first, -0.5)
    step(other, second, -0.5)
    assert tensors
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "muon", "adafactor"])
def test_state_kept_in_the_machines_memory_gives_the_same_bits_and_goes_on(monkeypatch: pytest.MonkeyPatch, name: str):
    """Several optimizers, each over a bucket of weights; their state is in copies between steps."""
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("instil.training.step.optimizer.BUCKET", 3000)

    def made(on_host: bool) -> tuple[dict[str, torch.Tensor], list[torch.optim.Optimizer]]:
        torch.manual_seed(0)
        shapes = {"wide": (96, 64), "first": (32, 40), "second": (32, 40), "third": (32, 40), "small": (8, 8)}
        weights = {key: torch.nn.Parameter(torch.randn(shape)) for key, shape in shapes.items()}
        kinds = dict.fromkeys(weights, "matrix")
        return weights, build_optimizers(weights, kinds, name=name, lr=1e-2, state_on_host=on_host)  # type: ignore[arg-type]

    def step(weights: dict[str, torch.Tensor], optimizers: list[torch.optim.Optimizer]) -> None:
        for weight in weights.values():
            weight.grad = weight.detach().sin()
        for optimizer in optimizers:
            optimizer.step()

    (plain, usual), (hosted, many) = made(False), made(True)
    assert (len(usual), len(many)) == (1, 3)
    for _ in range(3):
        step(plain, usual)
        step(hosted, many)
    assert all(torch.equal(plain[key], hosted[key]) for key in plain)
    copies = [copy for one in many for copy in host_state_of(one)._copies.values()]  # type: ignore[union-attr]
    kept = [value for one in many for state in one.state.values() for value in state.values()]
    assert all(any(copy is value for value in kept) for copy in copies)
    assert bool(copies) == (name != "adafactor")  # which keeps rows and columns alone
    tensors, numbers = read_state(many, hosted)
    again, fresh = made(True)
    with torch.no_grad():
        for key, weight in again.items():
            weight.copy_(hosted[key])
    write_state(fresh, again, tensors={key: value.clone() for key, value in tensors.items()}, numbers=numbers)
    step(plain, usual)
    step(again, fresh)
    assert all(torch.equal(plain[key], again[key]) for key in plain)


def test_nothing_to_train_is_an_error():
    with pytest.raises(RecipeError, match="no parameter is left to train"):
        build_optimizers({}, {}, lr=1.0)


def test_state_of_8_bits_can_be_written_and_goes_on_to_the_same_bits(tmp_path: Path):
    """From 4,096 numbers on bitsandbytes keeps a weight's moments in 8 bits, with tables that all weights share."""
    pytest.importorskip("bitsandbytes")
    from safetensors.torch import load_file, save_file

    def made() -> tuple[dict[str, torch.Tensor], list[torch.optim.Optimizer]]:
        torch.manual_seed(0)
        weights = {name: torch.nn.Parameter(torch.randn(64, 64)) for name in ("first", "second")}
        return weights, build_optimizers(weights, dict.fromkeys(weights, "matrix"), name="adamw_8bit", lr=1e-2)

    def step(weights: dict[str, torch.Tensor], optimizers: list[torch.optim.Optimizer]) -> None:
        for weight in weights.values():
            weight.grad = weight.detach().sin()
        optimizers[0].step()

    weights, optimizers = made()
    step(weights, optimizers)
    tensors, numbers = read_state(optimizers, weights)
    assert tensors["first::state1"].dtype == torch.uint8
    save_file(tensors, tmp_path / "state.safetensors")
    again, fresh = made()
    for name, weight in again.items():
        weight.data.copy_(weights[name].data)
    write_state(fresh, again, tensors=load_file(tmp_path / "state.safetensors"), numbers=numbers)
    for each, its in ((weights, optimizers), (again, fresh)):
        step(each, its)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
