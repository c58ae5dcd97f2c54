"""Claims about several values on the command line: every spelling sweeps, and lists by nature stay lists."""

from __future__ import annotations

import json

import pytest
from tests.training.command_line import exit_code

from instil.cli.swept_options import with_sweeps
from instil.errors import RecipeError


def swept(*words):
    """Return what a command line sweeps, and its other words."""
    *rest, last = with_sweeps(["train", "r.yaml", *words])
    if not last.startswith("--sweep="):
        return None, [*rest, last][2:]
    return json.loads(last.removeprefix("--sweep=")), rest[2:]


@pytest.mark.parametrize(
    "words",
    [
        ["--optimizer.lr", "1e-4,3e-4"],
        ["--optimizer.lr=1e-4,3e-4"],
        ["--optimizer.lr", "1e-4, 3e-4"],
        ["--optimizer.lr", "1e-4", "--optimizer.lr", "3e-4"],
        ["--optimizer.lr=1e-4", "--training.seed", "1", "--optimizer.lr=3e-4"],
        ["--optimizer.lr", "[1e-4, 3e-4]"],
        ["--sweep.optimizer.lr", "1e-4,3e-4"],
    ],
)
def test_every_spelling_of_several_values_is_a_sweep(words):
    found, rest = swept(*words)
    assert [float(value) for value in found["optimizer.lr"]] == [1e-4, 3e-4]
    assert rest in ([], ["--training.seed", "1"])


@pytest.mark.parametrize(
    "words",
    [
        ["--optimizer.lr", "1e-4"],
        ["--adapter.targets", "q_proj,v_proj"],
        ["--adapter.targets", "q_proj", "--adapter.targets", "v_proj"],
        ["--data.sources", "a.jsonl,b.jsonl"],
        ["--training.freeze", "a", "b"],
        ["--optimizer.betas", "0.9,0.95"],
        ["--optimizer.betas", "[0.9, 0.95]"],
        ["--evaluate.samples", "One, two"],
        ["--data.delimiter", ","],
        ["--data.sheet", "Sales, 2024"],
        ["--tracking.name", "a,b"],
        ["--training.shuffle=false"],
        ["--data.columns", '{"user": "{a}, {b}"}'],
        ["--training.shuffle", "r2.yaml"],
    ],
)
def test_one_value_and_lists_by_nature_stay_as_they_are(words):
    assert swept(*words) == (None, words)


def test_other_kinds_of_settings_are_swept_too():
    assert swept("--training.shuffle", "true,false")[0] == {"training.shuffle": [True, False]}
    assert swept("--optimizer.name", "adamw,muon")[0] == {"optimizer.name": ["adamw", "muon"]}
    assert swept("--optimizer.clip", "1,none")[0] == {"optimizer.clip": [1, None]}
    assert swept("--model.name", "demo,owner/model")[0] == {"model.name": ["demo", "owner/model"]}
    assert swept("--optimizer.lr", "1e-5..1e-3")[0] == {"optimizer.lr": "1e-5..1e-3"}
    assert swept("--adapter.targets", '[["q_proj"], ["q_proj", "v_proj"]]')[0] == {
        "adapter.targets": [["q_proj"], ["q_proj", "v_proj"]]
    }
    assert swept("--threads", "1,2")[0] == {"threads": [1, 2]}
    assert swept("--sweep", '{"adapter.rank": [1, 2]}', "--optimizer.lr", "1,2")[0].keys() == {
        "adapter.rank", "optimizer.lr",
    }  # fmt: skip


def test_a_path_with_a_comma_is_one_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").mkdir()
    assert swept("--model.name", "a,b") == (None, ["--model.name", "a,b"])


def test_an_empty_value_and_a_verb_without_sweeps_are_named():
    with pytest.raises(RecipeError, match=r"optimizer.lr: found '1e-4,', in which a value is empty"):
        with_sweeps(["train", "r.yaml", "--optimizer.lr", "1e-4,"])
    with pytest.raises(RecipeError, match=r"training\.seed: found several values. Expected one"):
        with_sweeps(["prepare", "r.yaml", "--training.seed", "1,2"])


def test_values_with_a_space_between_them_name_the_comma(capsys):
    assert exit_code("train", "recipe.yaml", "--optimizer.lr", "1e-4", "3e-4") == 2
    assert "several values of a setting have commas between them" in capsys.readouterr().err
