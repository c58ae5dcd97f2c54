"""What must not change a result, each through the real command line on the embedded base model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.command_line import losses_of, same_bits, train, train_on_two, weights_of, write_recipe
from tests.training.stops import interrupted

from instil.model.folder.location import locate
from instil.preparation.store import ExampleStore
from instil.recipe import Recipe
from instil.training.records.run_folder import Run
from instil.training.step.order import plan_order

pytestmark = pytest.mark.slow


STEPS = 4


SHORT: dict[str, Any] = {
    "training": {"max_steps": STEPS, "batch_size": 5, "precision": "fp32"},
    "optimizer": {"lr": 1e-4, "schedule": "constant", "warmup": 0},
    "evaluate": {"every": STEPS, "max_new_tokens": 1},
    "checkpoint": {"every": 1, "keep_last": 9},
}


STILL = {"optimizer": {"lr": 1e-30}, "training": {"max_steps": 1}}


NOISY = {"training": {"neftune_alpha": 5.0}, "adapter": {"kind": "lora", "rank": 4, "dropout": 0.2}}


@pytest.fixture(scope="module")
def demo() -> Path:
    return locate("demo").folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, demo: Path, rows: Path) -> Run:
    return train(write_recipe(tmp_path_factory.mktemp("plain"), SHORT, base=demo, rows=rows))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory, demo: Path, rows: Path) -> Run:
    return train(write_recipe(tmp_path_factory.mktemp("noisy"), SHORT, NOISY, base=demo, rows=rows))


def heldout_of(run: Run) -> list[float]:
    return [line["heldout_loss"] for line in run.metrics() if "heldout_loss" in line]


def assert_same_losses(run: Run, expected: Run) -> None:
    assert len(losses_of(expected)) == STEPS
    assert losses_of(run) == pytest.approx(losses_of(expected), abs=1e-5)
    assert heldout_of(run) == pytest.approx(heldout_of(expected), abs=1e-5)
    steps = [(line["tokens"], line["trained_tokens"]) for line in run.metrics() if "loss" in line]
    assert steps == [(line["tokens"], line["trained_tokens"]) for line in expected.metrics() if "loss" in line]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"training": {"micro_batch_tokens": 1}}, marks=pytest.mark.long),
        {"training": {"micro_batch_tokens": 100}},
        pytest.param({"training": {"gradient_checkpointing": "on"}}, marks=pytest.mark.long),
        {"parallel": {"processes": 2, "mode": "replicated"}},
        pytest.param({"parallel": {"processes": 2, "mode": "sharded"}}, marks=pytest.mark.long),
    ],
    ids=["one-example-at-a-time", "in-parts", "checkpointing", "two-processes", "two-shards"],
)
def test_losses_do_not_depend_on_how_steps_are_computed(
    tmp_path: Path, demo: Path, rows: Path, plain: Run, change: dict[str, Any]
):
    compute = train_on_two if "parallel" in change else train
    assert_same_losses(compute(write_recipe(tmp_path, SHORT, change, base=demo, rows=rows)), plain)


@pytest.mark.compiled
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: 1 case left out")
def test_compiling_does_not_change_losses(tmp_path: Path, demo: Path, rows: Path):
    short = {"training": {"max_steps": 2}, "data": {"heldout_share": 0}}
    plain = train(write_recipe(tmp_path / "a", SHORT, short, base=demo, rows=rows))
    compiled = {"training": {"max_steps": 2, "compile": "on"}}
    run = train(write_recipe(tmp_path / "b", SHORT, short, compiled, base=demo, rows=rows))
    assert len(losses_of(plain)) == 2
    assert losses_of(run) == pytest.approx(losses_of(plain), abs=1e-5)


def test_weights_times_a_constant_change_nothing(tmp_path: Path, demo: Path, rows: Path, plain: Run):
    four = {"data": {"sources": [{"path": str(rows), "weight": 4.0}]}}
    assert_same_losses(train(write_recipe(tmp_path, SHORT, four, base=demo, rows=rows)), plain)


@pytest.mark.long
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.long), STEPS - 1])
def test_noise_and_dropout_go_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Path, rows: Path, noisy: Run, step: int
):
    recipe = write_recipe(tmp_path, SHORT, NOISY, base=demo, rows=rows)
    interrupted(monkeypatch, recipe, step)
    resumed = train(recipe, "--resume")
    assert losses_of(resumed) == losses_of(noisy)
    assert same_bits(resumed, noisy)


@pytest.mark.parametrize(
    "words",
    [
        ("--training.micro-batch-tokens", "30"),
        pytest.param(("--parallel.processes", "2"), marks=pytest.mark.long),
    ],
)
def test_noise_goes_on_across_cuts_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Path, rows: Path, words: tuple[str, ...]
):
    noise = {"training": {"neftune_alpha": 5.0}}
    recipe = write_recipe(tmp_path / "cut", SHORT, noise, base=demo, rows=rows)
    interrupted(monkeypatch, recipe, 2)
    shutil.copytree(tmp_path / "cut", tmp_path / "whole")
    whole = write_recipe(tmp_path / "whole", SHORT, noise, base=demo, rows=rows)
    resume = train_on_two if "--parallel.processes" in words else train
    assert_same_losses(resume(recipe, "--resume", *words), train(whole, "--resume"))


def first_step(run: Run, rows: Path) -> ExampleStore:
    """Return the examples of a run's first step."""
    recipe = Recipe.load(run.folder / "recipe.yaml")
    (folder,) = [
        path for path in (rows.parent / "store").iterdir() if path.name in (run.folder / "ledger.json").read_text()
    ]
    store = ExampleStore.open(folder)
    order = plan_order(len(store), batch_size=recipe.training.batch_size, max_steps=1, seed=recipe.training.seed)
    return store.select(order.members(1).indices)


def test_flat_equals_padded_as_transformers_computes_it(tmp_path: Path, demo: Path, rows: Path):
    from transformers import AutoModelForCausalLM

    run = train(write_recipe(tmp_path, SHORT, STILL, base=demo, rows=rows))
    examples = first_step(run, rows)
    longest = int(examples.num_tokens.max())
    ids = torch.zeros(len(examples), longest, dtype=torch.int64)
    mask, weights = torch.zeros_like(ids), torch.zeros(len(examples), longest)
    for number, example in enumerate(examples):
        length = len(example.token_ids)
        ids[number, :length] = torch.tensor(example.token_ids.tolist())
        mask[number, :length] = 1
        weights[number, :length] = torch.tensor(example.weights.tolist())
    assert mask.sum() < mask.numel()
    model = AutoModelForCausalLM.from_pretrained(run.model_folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    expected = (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()
    assert losses_of(run) == pytest.approx([expected.item()], rel=1e-5)


def test_all_ones_weights_give_transformers_own_loss(tmp_path: Path, demo: Path, rows: Path):
    from transformers import AutoModelForCausalLM

    everything = {"data": {"train_on": "all"}, "training": {"max_steps": 1, "batch_size": 1}}
    run = train(write_recipe(tmp_path, SHORT, STILL, everything, base=demo, rows=rows))
    (example,) = first_step(run, rows)
    assert example.weights[1:].tolist() == [1.0] * (len(example.token_ids) - 1)
    ids = torch.tensor([example.token_ids.tolist()])
    model = AutoModelForCausalLM.from_pretrained(run.model_folder, dtype=torch.float32)
    with torch.no_grad():
        expected = model(input_ids=ids, labels=ids).loss
    assert losses_of(run) == pytest.approx([expected.item()], rel=1e-5)


@pytest.mark.long
def test_a_batch_of_one_on_two_processes_and_a_last_step_of_one(tmp_path: Path, demo: Path, rows: Path):
    """28 or so trained rows in steps of 27: the last step of the epoch holds what is left, and each step shares one row."""
    single = {"training": {"batch_size": 1, "max_steps": STEPS}}
    alone = train(write_recipe(tmp_path / "a", SHORT, single, base=demo, rows=rows))
    two = {"parallel": {"processes": 2}}
    assert_same_losses(train_on_two(write_recipe(tmp_path / "b", SHORT, single, two, base=demo, rows=rows)), alone)
    examples = alone.results["examples"]
    last = {"training": {"batch_size": examples - 1, "max_steps": None, "epochs": 1}}
    other = train_on_two(write_recipe(tmp_path / "c", SHORT, last, two, base=demo, rows=rows))
    one = train(write_recipe(tmp_path / "d", SHORT, last, base=demo, rows=rows))
    assert len(losses_of(one)) == 2
    assert losses_of(other) == pytest.approx(losses_of(one), abs=1e-5)
    for name, weight in weights_of(one).items():
        assert torch.allclose(weight, weights_of(other)[name], atol=1e-5), name
