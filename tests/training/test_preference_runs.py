"""What must not change a run that learns from preferences, each through the real command line."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.command_line import (
    assert_equal_runs,
    losses_of,
    same_bits,
    train,
    train_fails,
    train_on_two,
    without_times,
    write_recipe,
)
from tests.training.pairs import SHORT, STEPS, figures_of, make_pairs
from tests.training.plain_preference import lengths_of, padded_log_probabilities, pair_loss
from tests.training.stops import interrupted

from instil.preparation.store import ExampleStore
from instil.recipe import Recipe
from instil.training.records.run_folder import Run

pytestmark = pytest.mark.slow

Trains = Callable[..., Run]

OBJECTIVES: dict[str, dict[str, Any]] = {
    name: {"training": {**SHORT["training"], "objective": name}} for name in ("dpo", "simpo", "kto", "ipo", "orpo")
}
ADAPTERS: dict[str, dict[str, Any]] = {"full": {}, "lora": {"adapter": {"kind": "lora", "rank": 4, "dropout": 0.0}}}
CHANGES: dict[str, dict[str, Any]] = {
    "one-answer-at-a-time": {"training": {"micro_batch_tokens": 1}},
    "pairs-parted": {"training": {"micro_batch_tokens": 60}},
    "pairs-whole": {"training": {"micro_batch_tokens": 150}},
    "checkpointing": {"training": {"gradient_checkpointing": "on"}},
    "two-processes": {"parallel": {"processes": 2, "mode": "replicated"}},
    "two-shards": {"parallel": {"processes": 2, "mode": "sharded"}},
}


def product() -> list[Any]:
    """Return objective, what trains and how it is computed; each two of them meet, of which `make test` runs DPO."""
    cases = []
    for row, objective in enumerate(OBJECTIVES):
        for column, change in enumerate(CHANGES):
            for place, adapter in enumerate(ADAPTERS):
                marks = []
                if row >= 3 or place != (row + column) % 2:
                    marks = [pytest.mark.exhaustive]
                elif objective != "dpo" or change in ("two-shards", "checkpointing", "pairs-parted"):
                    marks = [pytest.mark.long]
                cases.append(
                    pytest.param(objective, adapter, change, id=f"{objective}-{adapter}-{change}", marks=marks)
                )
    return cases


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, base: Path, pairs: Path) -> Trains:
    """The uninterrupted run of an objective on one process, in one micro-batch; each is trained once."""
    runs: dict[tuple[str, str], Run] = {}

    def of(objective: str, adapter: str = "full") -> Run:
        key = (objective, adapter)
        if key not in runs:
            folder = tmp_path_factory.mktemp("-".join(key))
            runs[key] = train(
                write_recipe(folder, SHORT, OBJECTIVES[objective], ADAPTERS[adapter], base=base, rows=pairs)
            )
        return runs[key]

    return of


def assert_same_figures(run: Run, expected: Run) -> None:
    assert_equal_runs(run, expected)
    for prefix in ("", "heldout_"):
        assert len(figures_of(expected, prefix=prefix)) == (2 if prefix else STEPS)
        assert figures_of(run, prefix=prefix) == pytest.approx(np.array(figures_of(expected, prefix=prefix)), abs=2e-4)


def store_folder(run: Run, rows: Path) -> Path:
    (folder,) = [
        path for path in (rows.parent / "store").iterdir() if path.name in (run.folder / "ledger.json").read_text()
    ]
    return folder


def reference_files(run: Run, rows: Path) -> list[Path]:
    return [path for folder in (run.folder, store_folder(run, rows)) for path in sorted(folder.glob("reference-*.npz"))]


@pytest.mark.parametrize(("objective", "adapter", "change"), product())
def test_how_it_is_computed_changes_nothing(
    tmp_path: Path, base: Path, pairs: Path, plain: Trains, objective: str, adapter: str, change: str
):
    settings = CHANGES[change]
    group = {**OBJECTIVES[objective]["training"], **settings.get("training", {})}
    recipe = write_recipe(tmp_path, SHORT, ADAPTERS[adapter], settings, {"training": group}, base=base, rows=pairs)
    run = (train_on_two if "parallel" in settings else train)(recipe)
    assert_same_figures(run, plain(objective, adapter))


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_the_first_loss_is_proved_and_printed(
    tmp_path: Path, base: Path, pairs: Path, capsys: pytest.CaptureFixture[str], objective: str
):
    settings = {"training": {**OBJECTIVES[objective]["training"], "max_steps": 1, "micro_batch_tokens": 60}}
    run = train(write_recipe(tmp_path, SHORT, settings, base=base, rows=pairs))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("start ")]
    said = "loss 0.693147 = ln 2, margin" if objective == "dpo" else "loss 0.500000 = 0.5, margin"
    assert said in line
    expected = math.log(2) if objective == "dpo" else 0.5
    assert losses_of(run) == pytest.approx([expected], abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16", pytest.param("pure_bf16", marks=pytest.mark.long)])
@pytest.mark.parametrize("objective", ["dpo", pytest.param("ipo", marks=pytest.mark.long)])
def test_in_half_precision_the_proof_holds_whatever_the_cut(
    tmp_path: Path, base: Path, pairs: Path, capsys: pytest.CaptureFixture[str], objective: str, precision: str
):
    own = tmp_path / "data" / "pairs.jsonl"
    own.parent.mkdir()
    shutil.copy(pairs, own)
    for cut in (2048, 60, 1):
        settings = {**OBJECTIVES[objective]["training"], "max_steps": 1, "precision": precision}
        change = {"training": {**settings, "micro_batch_tokens": cut}}
        run = train(write_recipe(tmp_path / str(cut), SHORT, change, base=base, rows=own))
        lines = capsys.readouterr().out.splitlines()
        (reference,) = [line for line in lines if line.startswith("reference ")]
        assert "computed before the first step" in reference, "a pass of another cut is not taken over"
        (start,) = [line for line in lines if line.startswith("start ")]
        assert "proved: loss " in start
        assert losses_of(run) == pytest.approx([math.log(2) if objective == "dpo" else 25.0], abs=0.05, rel=0.05)


def test_the_model_learns_to_prefer(plain: Trains):
    for objective in ("dpo", "simpo", "kto"):
        figures = figures_of(plain(objective), prefix="heldout_")
        assert figures[-1][0] > figures[0][0] + 0.01
        assert losses_of(plain(objective))[-1] < losses_of(plain(objective))[0]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_heldout_figures_are_those_of_plain_transformers_before_and_after(
    tmp_path: Path, base: Path, pairs: Path, plain: Trains, adapter: str
):
    """Policy and reference are loaded from the folders that runs wrote, and asked padded, two passes at a time."""
    from transformers import AutoModelForCausalLM

    settings = {"training": {**OBJECTIVES["dpo"]["training"], "max_steps": 1}, "optimizer": {"lr": 1e-30}}
    start = train(write_recipe(tmp_path, SHORT, ADAPTERS[adapter], settings, base=base, rows=pairs))
    run = plain("dpo", adapter)
    held = list(ExampleStore.open(store_folder(run, pairs), split="heldout"))
    sides = held[::2], held[1::2]
    assert [example.side for example in held] == ["chosen", "rejected"] * len(sides[0])
    assert len(sides[0]) > 2
    found = []
    with torch.no_grad():
        for folder in (run.model_folder, start.model_folder):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            found.append([padded_log_probabilities(model, side) for side in sides])
    policy, reference = ((side[0], side[1]) for side in found)
    lengths = lengths_of(sides[0]), lengths_of(sides[1])
    expected = float(pair_loss("dpo", policy, reference, lengths, beta=0.1))
    assert run.results["heldout_loss"] == pytest.approx(expected, abs=2e-5)
    assert abs(expected - math.log(2)) > 1e-3
    margin = 0.1 * (policy[0] - reference[0] - policy[1] + reference[1])
    last = [line for line in run.metrics() if "heldout_loss" in line][-1]
    assert last["heldout_margin"] == pytest.approx(float(margin.mean()), abs=2e-4)
    assert last["heldout_accuracy"] == pytest.approx(float((margin > 0).double().mean()))


@pytest.mark.parametrize(
    ("objective", "adapter"),
    [
        ("dpo", "full"),
        pytest.param("simpo", "lora", marks=pytest.mark.long),
        pytest.param("kto", "lora", marks=pytest.mark.long),
        *(
            pytest.param(objective, adapter, marks=pytest.mark.exhaustive)
            for objective, adapter in (("dpo", "lora"), ("simpo", "full"), ("kto", "full"), ("ipo", "full"))
        ),
    ],
)
@pytest.mark.parametrize("lost", [False, True], ids=["as-it-is", "reference-files-lost"])
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    pairs: Path,
    plain: Trains,
    capsys: pytest.CaptureFixture[str],
    objective: str,
    adapter: str,
    lost: bool,
):
    whole = plain(objective, adapter)
    own = tmp_path / "data" / "pairs.jsonl"
    own.parent.mkdir()
    shutil.copy(pairs, own)
    recipe = write_recipe(tmp_path, SHORT, OBJECTIVES[objective], ADAPTERS[adapter], base=base, rows=own)
    interrupted(monkeypatch, recipe, 2)
    files = reference_files(Run.open(tmp_path / "run"), own)
    assert len(files) == (0 if objective == "simpo" else 2)
    before = [path.read_bytes() for path in files]
    if lost:
        for path in files:
            path.unlink()
    capsys.readouterr()
    resumed = train(recipe, "--resume")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("reference ")] or [""]
    if objective != "simpo":
        assert ("computed before the first step" if lost else "read from an earlier pass") in line
        assert [path.read_bytes() for path in files] == before
    assert without_times(resumed) == without_times(whole)
    assert same_bits(resumed, whole)


@pytest.mark.long
def test_dropout_and_noise_go_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, pairs: Path
):
    noisy: dict[str, Any] = {
        "training": {**OBJECTIVES["dpo"]["training"], "neftune_alpha": 5.0, "micro_batch_tokens": 60},
        "adapter": {"kind": "lora", "rank": 4, "dropout": 0.2},
    }
    whole = train(write_recipe(tmp_path / "a", SHORT, noisy, base=base, rows=pairs))
    assert abs(losses_of(whole)[0] - math.log(2)) > 1e-5
    recipe = write_recipe(tmp_path / "b", SHORT, noisy, base=base, rows=pairs)
    interrupted(monkeypatch, recipe, 2)
    resumed = train(recipe, "--resume")
    assert without_times(resumed) == without_times(whole)
    assert same_bits(resumed, whole)


def test_a_reference_of_other_numbers_is_refused_by_the_proof(
    tmp_path: Path, base: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
):
    own = tmp_path / "data" / "pairs.jsonl"
    own.parent.mkdir()
    shutil.copy(pairs, own)
    first = train(write_recipe(tmp_path / "a", SHORT, OBJECTIVES["dpo"], base=base, rows=own))
    kept = reference_files(first, own)[-1]
    assert kept.parent == store_folder(first, own)
    with np.load(kept) as read:
        content = dict(read)
    np.savez(kept.with_suffix(""), **{**content, "own": content["own"] + 0.5})
    recipe = write_recipe(tmp_path / "b", SHORT, OBJECTIVES["dpo"], base=base, rows=own)
    said = train_fails(recipe, capsys=capsys)
    assert "reference: before the first step" in said
    assert f"Remove {tmp_path / 'b' / 'run' / kept.name} and {kept}, then continue with instil train " in said
    assert not (tmp_path / "b" / "run" / "metrics.jsonl").exists()
    kept.unlink()
    (tmp_path / "b" / "run" / kept.name).unlink()
    assert losses_of(train(recipe, "--resume")) == losses_of(first)


def test_a_damaged_reference_file_is_computed_again(tmp_path: Path, base: Path, pairs: Path, plain: Trains):
    own = tmp_path / "data" / "pairs.jsonl"
    own.parent.mkdir()
    shutil.copy(pairs, own)
    first = train(write_recipe(tmp_path / "a", SHORT, OBJECTIVES["dpo"], base=base, rows=own))
    kept = reference_files(first, own)[-1]
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    second = train(write_recipe(tmp_path / "b", SHORT, OBJECTIVES["dpo"], base=base, rows=own))
    assert same_bits(second, plain("dpo"))
    assert reference_files(second, own)[0].read_bytes() == whole
    assert kept.read_bytes() == whole


def test_the_saved_recipe_has_beta_and_the_objective(plain: Trains):
    recipe = Recipe.load(plain("simpo").folder / "recipe.yaml")
    assert (recipe.training.objective, recipe.preference.beta) == ("simpo", 2.0)
