from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import (
    exit_code,
    losses_of,
    make_base,
    make_rows,
    same_bits,
    train,
    train_fails,
    write_recipe,
)
from tests.training.stops import interrupted

from instil.recipe import Recipe
from instil.training.records.run_folder import Run

LORA = {"adapter": {"kind": "lora", "rank": 4, "dropout": 0.2}}


NOISE = {"training": {"neftune_alpha": 5.0}}


def test_the_model_learns(reference: Run):
    losses = losses_of(reference)
    assert losses[-1] < losses[0] - 1


@pytest.mark.slow
def test_ctrl_c_says_where_it_saved_and_a_second_one_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 3, signal.SIGINT)
    said = capsys.readouterr().out
    assert "SIGINT: finishing this step and saving" in said
    assert "saved in" in said
    assert "step-000003" in said
    words = next(line for line in said.splitlines() if line.startswith("continue ")).split()[1:]
    assert words == ["instil", "train", str(tmp_path / "run" / "recipe.yaml"), "--resume"]
    resumed_by_its_own_command(words[1:], tmp_path, capsys)

    def twice(learner: Any, members: Any, **settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    again = write_recipe(tmp_path / "again", base=base, rows=rows)
    monkeypatch.setattr("instil.training.loop.take_step", twice)
    assert exit_code("train", str(again)) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "error: stopped by Ctrl-C"


def resumed_by_its_own_command(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that the command that a stopped run names finishes it, and that its time is that of the whole run."""
    assert exit_code(*words) == 0
    out = capsys.readouterr().out
    run = Run.open(folder / "run")
    assert run.finished
    steps = [line["seconds"]["total"] for line in run.metrics() if "loss" in line]
    assert len(steps) == 12
    assert run.results["training_seconds"] == pytest.approx(sum(steps), abs=0.01)
    time = next(line for line in out.splitlines() if line.startswith("time "))
    assert "in steps of the whole run; since it was resumed" in time


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_before_the_first_step_stops_at_once_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    rows: Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
    said: str,
):
    monkeypatch.setattr("instil.training.run.assemble", lambda *given, **settings: os.kill(os.getpid(), number))
    assert exit_code("train", str(write_recipe(tmp_path, base=base, rows=rows))) == 128 + number
    assert capsys.readouterr().err == f"error: stopped by {said}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_micro_batch_size_changes_nothing(tmp_path: Path, base: Path, rows: Path, reference: Run):
    """Other sizes: `test_demo_equivalences`."""
    run = train(write_recipe(tmp_path, {"training": {"micro_batch_tokens": 100}}, base=base, rows=rows))
    assert losses_of(run) == pytest.approx(losses_of(reference), abs=1e-4)
    assert losses_of(run)[:3] == pytest.approx(losses_of(reference)[:3], abs=1e-5)
    assert run.results["heldout_loss"] == pytest.approx(reference.results["heldout_loss"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("named", ["adapter.resume_from", pytest.param("model.name", marks=pytest.mark.long)])
def test_an_adapter_goes_on_in_another_run(tmp_path: Path, base: Path, rows: Path, named: str):
    short = {"training": {"max_steps": 3}, "evaluate": {"every": 3, "max_new_tokens": 2}}
    first = train(write_recipe(tmp_path / "a", LORA, short, base=base, rows=rows))
    adapter = str(first.folder / "adapter")
    onward = {"adapter": {"resume_from": adapter}} if named == "adapter.resume_from" else {"model": {"name": adapter}}
    second = train(write_recipe(tmp_path / "b", LORA, short, onward, base=base, rows=rows))
    heldout = [line["heldout_loss"] for line in second.metrics() if "heldout_loss" in line]
    assert heldout[0] == pytest.approx(first.results["heldout_loss"], abs=1e-5)
    assert heldout[-1] < heldout[0]
    assert not same_bits(first, second)


@pytest.mark.slow
def test_a_rate_that_blows_up_stops_and_names_rows(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    change = {"optimizer": {"lr": 1e30, "clip": None}, "training": {"max_steps": 20}}
    said = train_fails(write_recipe(tmp_path, change, base=base, rows=rows), capsys=capsys)
    assert "rows.jsonl:" in said
    assert "The weights have not moved" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"sources": ["nowhere.jsonl"]}}, "nowhere.jsonl"),
        ({"data": {"sources": []}}, "data.sources"),
        ({"model": {"name": "no/such/folder/here"}}, "no/such/folder/here"),
        ({"model": {"template": "chatmll"}}, "chatml"),
        ({"evaluate": {"tasks": ["exact_mach"]}}, "exact_match"),
        ({"training": {"freeze": ["nothing.like.this"]}}, "nothing.like.this"),
        ({"training": {"precision": "fp16"}, "device": "cpu"}, "training.precision"),
        ({"adapter": {"kind": "lora", "targets": ["q_prj"]}}, "q_prj"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
):
    recipe = write_recipe(tmp_path, change, base=base, rows=rows)
    assert said in train_fails(recipe, capsys=capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_day_that_a_template_prints_is_pinned_for_preparing_again_and_for_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import datetime

    from instil.conversation import Conversation, Message
    from instil.encoding import tokenizer_setup
    from instil.generation.engine import Engine

    class LeapDay(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return datetime.date(2024, 2, 29)

    template = (
        "{{ strftime_now('%d %B %Y') }}\n{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    base, rows = make_base(tmp_path / "base"), make_rows(tmp_path / "rows.jsonl", count=8)
    changes = {"model": {"template": template}, "training": {"max_steps": 1}}
    recipe = write_recipe(tmp_path / "one", changes, base=base, rows=rows)
    monkeypatch.setattr(tokenizer_setup, "date", LeapDay)
    run = train(recipe)
    monkeypatch.undo()
    assert Recipe.load(run.folder / "recipe.yaml").data.date == "2024-02-29"
    capsys.readouterr()
    assert exit_code("prepare", str(run.folder / "recipe.yaml")) == 0
    assert "was there already" in capsys.readouterr().out
    engine = Engine.load(run.folder)
    served = engine.decode(engine.prompt(Conversation((Message("user", "hi"),))))
    assert served.startswith("29 February 2024\n")
