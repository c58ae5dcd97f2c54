from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import (
    assert_equal_runs,
    run_on_two,
    train,
    train_fails,
    train_on_two,
    write_recipe,
)

from instil.model.folder import memory_check as room
from instil.training import preflight, setup
from instil.training.memory import usage


@pytest.mark.parametrize("kind", ["none", pytest.param("lora", marks=pytest.mark.slow)])
def test_freezing_the_rows_of_new_tokens_is_said(
    tmp_path: Path, base: Path, rows: Path, kind: str, capsys: pytest.CaptureFixture[str]
):
    pattern = "embed_tokens.*" if kind == "none" else "*trainable_tokens*"
    changes = {"training": {"max_steps": 1, "freeze": [pattern]}, "adapter": {"kind": kind}}
    train(write_recipe(tmp_path, changes, base=base, rows=rows))
    assert "training.freeze keeps the new rows of these tokens in the embedding and head" in capsys.readouterr().out


@pytest.mark.slow
def test_dropout_that_a_model_brings_along_is_said(
    tmp_path: Path, base_with_dropout: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    train(write_recipe(tmp_path, {"training": {"max_steps": 1}}, base=base_with_dropout, rows=rows))
    assert "config.json sets dropout (attention_dropout 0.2), which is active in training" in capsys.readouterr().out


@pytest.mark.slow
def test_memory_that_the_model_does_not_get_is_one_line(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    changes = {"adapter": {"kind": "lora", "rank": 10**12}}
    said = train_fails(write_recipe(tmp_path, changes, base=base, rows=rows), capsys=capsys)
    assert "out of memory" in said
    assert "Set adapter.rank lower" in said
    assert not (tmp_path / "run").exists()


def with_room_for(copies: float, base: Path, patch: pytest.MonkeyPatch) -> None:
    """Let this machine have memory for so many copies of a model's weights."""
    numbers, _ = room.count_weights(base)
    for module in (room, usage):
        patch.setattr(module, "free_bytes", lambda device: int(copies * numbers * 4))


@pytest.mark.slow
def test_the_memory_of_a_machine_is_shared_by_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path
):
    recipe = write_recipe(tmp_path, {"parallel": {"mode": "replicated"}}, base=base, rows=rows)
    with_room_for(1.9, base, monkeypatch)
    codes, said = run_on_two(recipe)
    assert codes == [2, 2], said
    assert all("B 2 times, once in each process, as float32" in one for one in said)
    assert all("or free some memory, or start fewer processes.\n" in one for one in said)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_machines_train_a_model_for_which_neither_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path
):
    short: dict[str, Any] = {"training": {"max_steps": 2}, "evaluate": {"every": 2, "max_new_tokens": 1}}
    alone = train(write_recipe(tmp_path / "one", short, base=base, rows=rows))
    numbers, _ = room.count_weights(base)
    monkeypatch.setattr(room, "free_bytes", lambda device: int(0.6 * numbers * 4))
    monkeypatch.setattr(preflight, "processes_on", lambda device: 1)
    recipe = write_recipe(tmp_path / "two", short, {"parallel": {"mode": "sharded"}}, base=base, rows=rows)
    assert_equal_runs(train_on_two(recipe), alone)
    monkeypatch.setattr(room, "free_bytes", lambda device: int(0.4 * numbers * 4))
    recipe = write_recipe(tmp_path / "small", short, {"parallel": {"mode": "sharded"}}, base=base, rows=rows)
    codes, said = run_on_two(recipe)
    assert codes == [2, 2], said
    assert all("for the parts of 1 of 2 processes as float32" in one for one in said)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", pytest.param("lora", marks=pytest.mark.long)])
def test_processes_that_load_whole_take_turns_where_the_model_fits_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, adapter: str
):
    short: dict[str, Any] = {
        "adapter": {"kind": adapter}, "training": {"max_steps": 3}, "evaluate": {"every": 3, "max_new_tokens": 1}
    }  # fmt: skip
    alone = train(write_recipe(tmp_path / "one", short, base=base, rows=rows))
    monkeypatch.setattr(setup, "why_whole", lambda preflight: "it is to be loaded whole")
    load, cut = setup.load_trainable, setup.shard

    def note(what: str) -> None:
        with (tmp_path / "noted.txt").open("a") as file:
            file.write(f"{what} {os.environ['RANK']}\n")

    monkeypatch.setattr(setup, "load_trainable", lambda *given: note("load") or load(*given))
    monkeypatch.setattr(setup, "shard", lambda *given, **named: cut(*given, **named) or note("sharded"))
    with_room_for(1.9, base, monkeypatch)
    sharded = {"parallel": {"mode": "sharded"}}
    assert_equal_runs(train_on_two(write_recipe(tmp_path / "two", short, sharded, base=base, rows=rows)), alone)
    assert (tmp_path / "noted.txt").read_text().splitlines() == ["load 0", "sharded 0", "load 1", "sharded 1"]
