"""Settings and data that do not fit the objective: one line, from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import exit_code, train_fails, write_recipe
from tests.training.pairs import SHORT, make_pairs

import instil
from instil.errors import InstilError


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sets")
    judged = folder / "judged.jsonl"
    lines = [{"prompt": f"{n}+1", "completion": str(n + 1 + n % 2), "label": n % 2 == 0} for n in range(24)]
    judged.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"sft": rows, "pairs": make_pairs(folder / "pairs.jsonl"), "judged": judged}


def settings_of(objective: str, training: dict[str, Any] | None = None, **groups: Any) -> dict[str, Any]:
    return {"training": {**SHORT["training"], "max_steps": 1, "objective": objective, **(training or {})}, **groups}


WRONG = [
    (settings_of("dpo", preference={"beta": 0}), "pairs", "preference.beta: found 0"),
    (settings_of("dpo", preference={"beta": -0.1}), "pairs", "preference.beta: found -0.1"),
    (settings_of("dpo", preference={"beta": float("nan")}), "pairs", "preference.beta: found nan"),
    (settings_of("orpo", preference={"sft_weight": -1}), "pairs", "preference.sft_weight: found -1"),
    (settings_of("dop"), "pairs", "training.objective: found 'dop'"),
    (
        settings_of("sft", preference={"beta": 0.1}),
        "sft",
        "preference.beta: without effect, because training.objective is sft",
    ),
    (settings_of("sft", preference={"margin": 2.0}), "sft", "preference.margin: without effect"),
    (
        settings_of("dpo", preference={"margin": 2.0}),
        "pairs",
        "preference.margin: it is for simpo, but training.objective is dpo",
    ),
    (
        settings_of("simpo", preference={"length_normalized": True}),
        "pairs",
        "preference.length_normalized: it is for dpo and ipo",
    ),
    (settings_of("dpo", preference={"desirable_weight": 2.0}), "pairs", "preference.desirable_weight: it is for kto"),
    (settings_of("dpo", {"loss": "dft"}), "pairs", "training.loss: dft, but training.objective is dpo"),
    (settings_of("dpo", {"router_loss": 0.1}), "pairs", "training.router_loss: found 0.1, but dpo"),
    (settings_of("dpo", data={"too_long": "truncate_answer"}), "pairs", "data.too_long: found truncate_answer"),
    (settings_of("kto", data={"too_long": "split"}), "judged", "data.too_long: found split"),
    (settings_of("dpo", data={"train_on": "all"}), "pairs", "data.train_on: found all with training.objective: dpo"),
    (settings_of("kto", {"batch_size": 1}), "judged", "training.batch_size: found 1, but kto"),
    (
        settings_of("dpo", adapter={"kind": "lora", "resume_from": "runs/sft/adapter"}),
        "pairs",
        "Which model is the reference is not clear: the base, or the base with this adapter",
    ),
    (
        settings_of("dpo"),
        "sft",
        "rows.jsonl:1: found messages (column messages with role and content), one answer to imitate",
    ),
    (settings_of("kto"), "sft", "The objective needs judged answers"),
    (settings_of("dpo"), "judged", "judged.jsonl:1: has one judged answer (label). The objective compares two"),
    (settings_of("sft"), "judged", "judged.jsonl:2: has label false"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "which", "said"), WRONG)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    base: Path,
    files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    which: str,
    said: str,
):
    recipe = write_recipe(tmp_path, change, base=base, rows=files[which])
    assert said in train_fails(recipe, capsys=capsys)
    with pytest.raises(InstilError) as refused:
        instil.train(recipe, quiet=True)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_weight_of_a_source_is_refused(
    tmp_path: Path, base: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str], objective: str
):
    weighted = {"data": {"sources": [{"path": str(files["pairs"]), "weight": 2.0}]}}
    recipe = write_recipe(tmp_path, settings_of(objective), weighted, base=base, rows=files["pairs"])
    said = train_fails(recipe, capsys=capsys)
    assert "pairs.jsonl has weight 2" in said
    assert "a weight would change the preference itself" in said


def test_a_rate_of_imitation_is_a_warning_and_pairs_are_counted(
    tmp_path: Path, base: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    rate = {"optimizer": {"lr": 1e-3}, "evaluate": {"at_start": False, "max_new_tokens": 1}}
    assert exit_code("plan", str(write_recipe(tmp_path, settings_of("dpo"), rate, base=base, rows=files["pairs"]))) == 0
    printed = capsys.readouterr()
    said = " ".join(f"{printed.out} {printed.err}".split())
    assert "optimizer.lr: 0.001 is a rate for imitating answers (0.001 by default); dpo needs less, 2.5e-05" in said
    assert "6 pairs are held out: its loss moves by chance" in said
    assert "4 of 18 pairs (22.2%) are trained on" in said


def test_a_set_of_pairs_given_to_sft_names_the_objective_that_learns_from_both(
    tmp_path: Path, base: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    assert exit_code("prepare", str(write_recipe(tmp_path, settings_of("sft"), base=base, rows=files["pairs"]))) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "training.objective" in line]
    assert len(lines) == 1
    assert "24 rows have a chosen and a rejected answer: the chosen one is trained" in lines[0]
    assert "training.objective: dpo learns from both" in lines[0]


def test_kto_reads_a_pair_as_two_judged_answers(
    tmp_path: Path, base: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    whole = {"data": {"heldout_share": 0}}
    recipe = write_recipe(tmp_path, settings_of("kto"), whole, base=base, rows=files["pairs"])
    assert exit_code("prepare", str(recipe)) == 0
    assert "judged answers   48: 24 good, 24 bad" in capsys.readouterr().out
