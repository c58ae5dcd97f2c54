from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.command_line import call_on_processes, make_base, train, write_recipe
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from instil.model.adapters.merge import merge_in_place
from instil.model.adapters.saved import is_adapter_weight
from instil.model.folder.saving import save_model_folder
from instil.recipe import Recipe
from instil.training.preflight import Preflight, run_preflight
from instil.training.processes.join import join_ranks
from instil.training.processes.ranks import Ranks
from instil.training.records.run_folder import Run, RunPaths
from instil.training.records.written_model import examples_to_check
from instil.training.setup import Assembled, assemble, load_trainable
from instil.training.shards.loading import why_whole
from instil.training.shards.saving import save_shards, whole
from instil.training.step.precision import Weights, trained_type

Check = Callable[[Preflight, Ranks], None]


def on_processes(count: int, recipe: Path, check: Check) -> None:
    """Call `check` in forks that have joined each other, each with the run's preflight."""

    def joined() -> None:
        loaded = Recipe.load(recipe)
        with join_ranks(loaded.parallel, device_name="cpu") as ranks:
            check(run_preflight(loaded, ranks, say=lambda line: None), ranks)

    call_on_processes(count, joined)


def recipe_of(folder: Path, base: Path, rows: Path, change: dict[str, Any], *, ranks: int = 2) -> Path:
    parallel = {"parallel": {"processes": ranks, "mode": "sharded"}, "device": "cpu"}
    return write_recipe(folder, parallel, change, base=base, rows=rows)


@pytest.fixture(scope="module")
def chat_base(reference: Run) -> Path:
    """A base whose rows of chat tokens have been trained."""
    assert reference.model_folder is not None
    return reference.model_folder


BF16 = {"training": {"precision": "bf16"}}
LORA = {"adapter": {"kind": "lora", "rank": 4}}
CASES = {"full-fp32": {}, "full-bf16": BF16, "lora-fp32": LORA, "lora-bf16": LORA | BF16}
CASES_TO_RUN = [
    "full-fp32",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("full-bf16", "lora-fp32")),
    "lora-bf16",
]
"""Each setting of a case stays in `make test` once."""


def expected(preflight: Preflight, value: torch.nn.Parameter) -> torch.Tensor:
    """Return a weight of whole loading as a sharded run keeps it."""
    precision = preflight.precision
    return value.detach().to(trained_type(precision) if value.requires_grad else precision.compute)


def shards_equal_whole_loading(preflight: Preflight, ranks: Ranks) -> None:
    assembled = assemble(preflight, ranks, sharded=True)
    assert assembled.by_rows
    alone, _ = load_trainable(preflight, torch.device("cpu"))
    weights = dict(assembled.model.named_parameters())
    assert weights.keys() == dict(alone.named_parameters()).keys()
    for name, value in alone.named_parameters():
        shard = weights[name]
        assert isinstance(shard, DTensor), name
        assert shard.to_local().numel() < value.numel(), name
        assert shard.requires_grad == value.requires_grad, name
        assert torch.equal(whole(shard, shard.dtype), expected(preflight, value)), name
    buffers = dict(assembled.model.named_buffers())
    assert buffers.keys() == dict(alone.named_buffers()).keys()
    assert all(torch.equal(buffers[name], value) for name, value in alone.named_buffers())


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES_TO_RUN, "new-tokens"])
def test_shards_read_by_offset_are_those_of_whole_loading(
    tmp_path: Path, base: Path, chat_base: Path, rows: Path, case: str
):
    start = base if case == "new-tokens" else chat_base
    recipe = recipe_of(tmp_path, start, rows, CASES.get(case, {}))
    on_processes(2, recipe, shards_equal_whole_loading)


def fill_anew(model: Any) -> None:
    """Give every trained weight other numbers, the same whether it lies in shards or not."""
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if value.requires_grad:
                drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) / 8
                if isinstance(value, DTensor):
                    from torch.distributed.tensor import distribute_tensor

                    drawn = distribute_tensor(drawn, value.device_mesh, value.placements)
                value.copy_(drawn)


def save(assembled: Assembled, preflight: Preflight, ranks: Ranks, folder: Path) -> None:
    """Write the model of a sharded run as a run does."""
    (folder / "run").mkdir(exist_ok=True)
    prepared = preflight.prepared
    save_shards(
        assembled.model,
        assembled.learner.loss,
        preflight.chat,
        RunPaths(folder / "run"),
        settings=preflight.recipe.model,
        location=preflight.location,
        compute=preflight.precision.compute,
        examples=examples_to_check(prepared.heldout, prepared.train)[:2],
        ranks=ranks,
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES_TO_RUN)
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_files_of_a_model_in_shards_are_those_of_one_process(
    tmp_path: Path, chat_base: Path, rows: Path, case: str, count: int
):
    def files_are_equal(preflight: Preflight, ranks: Ranks) -> None:
        assembled = assemble(preflight, ranks, sharded=True)
        fill_anew(assembled.model)
        save(assembled, preflight, ranks, tmp_path)
        if not ranks.is_first:
            return
        alone, _ = load_trainable(preflight, torch.device("cpu"))
        weights = Weights(alone, preflight.precision)
        fill_anew(alone)
        with torch.no_grad():
            for name, master in weights.by_name.items():
                master.copy_(dict(alone.named_parameters())[name])
        if hasattr(alone, "peft_config"):
            save_model_folder(alone, preflight.chat, tmp_path / "alone" / "adapter", base=preflight.location.base_name)
            assert any(is_adapter_weight(name) for name, _ in alone.named_parameters())
            alone = merge_in_place(alone)
        save_model_folder(alone, preflight.chat, tmp_path / "alone" / "model")

    on_processes(count, recipe_of(tmp_path, chat_base, rows, CASES[case], ranks=count), files_are_equal)
    written = {path.relative_to(tmp_path / "alone"): path for path in (tmp_path / "alone").rglob("*") if path.is_file()}
    assert Path("model/model.safetensors") in written
    for name, path in written.items():
        assert (tmp_path / "run" / name).read_bytes() == path.read_bytes(), name


class Largest(TorchDispatchMode):
    """Notes the largest tensor that is made, in bytes of its storage."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if type(value) is torch.Tensor and value.device.type == "cpu":
                self.size = max(self.size, value.untyped_storage().nbytes())
        return result


@pytest.mark.slow
def test_no_process_ever_holds_the_embedding(tmp_path: Path, rows: Path):
    wide = make_base(tmp_path / "base", width=64, num_rows=2000)
    one_step = {"training": {"max_steps": 1}, "evaluate": {"every": 1, "max_new_tokens": 1}}
    start = train(write_recipe(tmp_path / "first", one_step, base=wide, rows=rows)).model_folder
    assert start is not None

    def loaded_and_saved(preflight: Preflight, ranks: Ranks) -> None:
        with Largest() as largest:
            assembled = assemble(preflight, ranks, sharded=True)
            table = assembled.model.get_input_embeddings().weight
            save(assembled, preflight, ranks, tmp_path)
        assert 0 < largest.size < table.numel() * 4

    on_processes(4, recipe_of(tmp_path, start, rows, {}, ranks=4), loaded_and_saved)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        (LORA, None),
        ({"adapter": {"kind": "lora", "dora": True}}, "DoRA"),
        ({"model": {"initialise": "random"}}, "drawn"),
    ],
    ids=["full", "lora", "dora", "random"],
)
def test_what_cannot_be_read_by_rows_is_loaded_whole_and_said(
    tmp_path: Path, chat_base: Path, rows: Path, change: dict[str, Any], reason: str | None
):
    recipe = Recipe.load(write_recipe(tmp_path, change, base=chat_base, rows=rows))
    found = why_whole(run_preflight(recipe, Ranks(0, 1, torch.device("cpu")), say=lambda line: None))
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


@pytest.mark.slow
def test_a_damaged_weight_is_found_by_the_process_that_has_its_rows_and_reported_by_all(
    tmp_path: Path, chat_base: Path, rows: Path
):
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base"
    base.mkdir()
    for path in chat_base.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    weights = load_file(base / "model.safetensors")
    name = next(name for name in weights if name.endswith("up_proj.weight"))
    weights[name][-1, 0] = torch.nan
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})

    def refused(preflight: Preflight, ranks: Ranks) -> None:
        with pytest.raises(Exception, match=f"damaged: {name}"):
            assemble(preflight, ranks, sharded=True)

    on_processes(2, recipe_of(tmp_path, base, rows, {}), refused)
