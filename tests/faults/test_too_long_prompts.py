"""A long conversation never ends a run, and never a whole file of answers; what is left out is counted and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_chat import folders
from tests.training.command_line import exit_code, train, write_recipe

from instil.training.records import samples
from instil.training.records.run_folder import Run

LONG = "word " * 80


def write_rows(path: Path) -> Path:
    """Write short conversations, and long ones that only fit without their first exchange or not at all."""
    rows = []
    for number in range(24):
        messages = [{"role": "user", "content": f"{number}+1"}, {"role": "assistant", "content": str(number + 1)}]
        if number % 3 == 1:
            messages = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "Yes"}, *messages]
        if number % 3 == 2:
            messages = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "No"}]
        rows.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["drop", "keep_last_turns", "truncate_answer"])
def test_a_run_with_long_heldout_conversations_ends(
    policy: str, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    change: dict[str, Any] = {
        "data": {"heldout": [str(rows)], "heldout_share": 0.0, "too_long": policy},
        "training": {"max_steps": 2},
        "evaluate": {"every": 1, "tasks": ["exact_match"]},
    }
    run = train(write_recipe(tmp_path, change, base=base, rows=rows))
    assert run.finished
    output = capsys.readouterr().out
    assert "left out" in output
    assert ("shortened to their last turns" in output) == (policy == "keep_last_turns")
    answered = [json.loads(line) for line in (run.folder / "samples.jsonl").read_text().splitlines()]
    assert answered
    assert all(len(line["prompt"]) < len(LONG) for line in answered)
    assert [line["step"] for line in run.metrics() if "tasks" in line] == [0, 1, 2]


@pytest.mark.slow
def test_a_prompt_that_the_template_refuses_stops_no_other(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "strict.jinja"
    template.write_text(
        "{% for m in messages %}{% if 'three' in m.content %}{{ raise_exception('no threes') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    change: dict[str, Any] = {
        "model": {"template": str(template)},
        "training": {"max_steps": 1},
        "evaluate": {"every": 1, "samples": ["What is three?", "What is 4?"]},
    }
    run = train(write_recipe(tmp_path, change, base=base, rows=rows))
    assert run.finished
    output = " ".join(capsys.readouterr().out.split())
    assert "samples: a prompt is left out" in output
    assert "no threes" in output
    asked = [json.loads(line)["prompt"] for line in (run.folder / "samples.jsonl").read_text().splitlines()]
    assert asked
    assert all("4" in prompt and "three" not in prompt for prompt in asked)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["engine", "tasks"])
def test_a_failure_in_sampling_or_in_a_task_never_ends_a_run(
    part: str,
    tmp_path: Path,
    base: Path,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Errors of libraries too; the other part is still done, and the failure is in the metrics."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a kernel is missing\nand more")

    if part == "engine":
        monkeypatch.setattr(samples.Sampler, "_answers", fail)
    else:
        monkeypatch.setattr(samples, "task_figures", fail)
    change = {"training": {"max_steps": 2}, "evaluate": {"every": 2, "tasks": ["exact_match"]}}
    run = train(write_recipe(tmp_path, change, base=base, rows=rows))
    assert run.finished
    what = {"engine": "the sample answers", "tasks": "the tasks"}[part]
    failures = [line["failures"] for line in run.metrics() if "failures" in line]
    assert failures == [[f"{what} failed (a kernel is missing). Training continues."]] * 2
    assert f"warning: step 2: {what} failed" in capsys.readouterr().err
    assert any("tasks" in line for line in run.metrics()) == (part == "engine")


@pytest.mark.slow
def test_a_kill_while_answering_loses_no_step_and_resuming_answers(
    tmp_path: Path, base: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path, {"training": {"max_steps": 4}, "evaluate": {"every": 2}}, base=base, rows=rows)
    whole = train(recipe)
    expected = (whole.folder / "samples.jsonl").read_text()
    other = write_recipe(
        tmp_path / "killed", {"training": {"max_steps": 4}, "evaluate": {"every": 2}}, base=base, rows=rows
    )
    draw, calls = samples.Sampler.draw, []

    def killed(self: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:  # at step 2, behind its checkpoint
            raise SystemExit(9)
        return draw(self)

    with monkeypatch.context() as patch:
        patch.setattr(samples.Sampler, "draw", killed)
        assert exit_code("train", str(other)) == 9
    folder = tmp_path / "killed" / "run"
    assert (folder / "checkpoints" / "step-000002").is_dir()
    assert exit_code("train", str(other), "--resume") == 0
    assert (folder / "samples.jsonl").read_text() == expected
    assert Run.open(folder).results["heldout_loss"] == whole.results["heldout_loss"]


def prompts_file(path: Path) -> Path:
    rows = [
        {"question": "Say hi", "answer": "Hi there!"},
        {"question": LONG * 4, "answer": "no"},
        {
            "messages": [
                {"role": "user", "content": LONG * 4},
                {"role": "assistant", "content": "I see"},
                {"role": "user", "content": "Capital of Peru?"},
                {"role": "assistant", "content": "Lima"},
            ]
        },
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "answered"), [("drop", [0]), ("keep_last_turns", [0, 2])])
def test_generate_answers_what_fits_and_keeps_the_rows_aligned(
    policy: str, answered: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = prompts_file(tmp_path / "prompts.jsonl"), tmp_path / "out.jsonl"
    command = ["generate", str(folders()["tuned"]), "--prompts", str(prompts), "--out", str(out), "--too-long", policy]
    assert exit_code(*command) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["row"].rsplit(":", 1)[1] for row in rows] == ["1", "2", "3"]
    assert [number for number, row in enumerate(rows) if row["prediction"] is not None] == answered
    assert rows[1]["finish_reason"] == "prompt_too_long"
    assert rows[1]["prompt_tokens"] > 512
    assert "prompts.jsonl:2" in capsys.readouterr().err
    before = out.read_text()
    assert exit_code(*command) == 0, "the same call continues"
    assert out.read_text() == before


def test_generate_can_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = prompts_file(tmp_path / "prompts.jsonl")
    words = ["--prompts", str(prompts), "--out", str(tmp_path / "out.jsonl"), "--too-long", "refuse"]
    assert exit_code("generate", str(folders()["tuned"]), *words) == 2
    assert "prompts.jsonl:2: the prompt has" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.slow
def test_evaluate_measures_what_fits_and_lists_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = prompts_file(tmp_path / "data.jsonl"), tmp_path / "report"
    command = ["evaluate", str(folders()["tuned"]), "--data", str(data), "--task", "exact_match", "--out", str(out)]
    assert exit_code(*command, "--against", str(folders()["base"])) == 0
    report = json.loads((out / "evaluation.json").read_text())
    assert report["num_prompts"] == 1
    assert any("2 prompts left out" in note and "data.jsonl:2" in note for note in report["length_notes"])
    assert "2 prompts left out" in capsys.readouterr().out
    assert "2 prompts left out" in (out / "evaluation.html").read_text()
    assert exit_code(*command, "--too-long", "refuse") == 2
    assert exit_code(*command, "--too-long", "keep_last_turns") == 0
    assert json.loads((out / "evaluation.json").read_text())["num_prompts"] == 2
