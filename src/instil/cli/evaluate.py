"""``instil evaluate``: measure a model on a file, alone or against another model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from instil.errors import EvaluationError
from instil.generation.settings import GREEDY, LOADING, LoadSettings, SamplingSettings

if TYPE_CHECKING:
    from instil.evaluation.results import Evaluation
    from instil.generation.engine import Engine
    from instil.generation.prompt_length import TooLongPrompt
    from instil.generation.prompts import Prompt


def evaluate(
    model: str,
    *,
    data: str | None = None,
    against: str | None = None,
    task: Annotated[list[str] | None, Parameter(name=["--task", "--tasks"], consume_multiple=True)] = None,
    turns: Literal["last", "every"] = "last",
    limit: int | None = None,
    too_long: Literal["drop", "keep_last_turns", "refuse"] = "drop",
    rendered_rows: Literal["read", "keep", "refuse"] = "read",
    out: Path | None = None,
    schema: Path | None = None,
    run_code: bool = False,
    harness: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    harness_folder: Path | None = None,
    sampling: Annotated[SamplingSettings, Parameter(name="*")] = GREEDY,
    loading: Annotated[LoadSettings, Parameter(name="*")] = LOADING,
) -> None:
    """Measure a model: every figure with its 95% interval, and pair by pair against another model.

    Writes evaluation.json, evaluation.md and evaluation.html into --out.

    Args:
        model: Run folder, model folder, adapter folder, Hub id or `demo`.
        data: Rows with prompts and reference answers, in any format that training reads.
        against: Model to compare with, usually the base.
        task: Tasks: exact_match, numeric, choice, classification, json, translation, summary, code, constraints,
            behaviour, multi_turn, system_prompt. Default: the tasks that fit the data.
        turns: Measure the last assistant turn of a conversation, or every one.
        limit: Largest number of prompts.
        too_long: What to do with a prompt that leaves no room for an answer in a model's context. drop: leave it out.
            keep_last_turns: drop its oldest exchanges. refuse: stop. What was left out is counted and listed.
        rendered_rows: What to do with a row that a chat template has rendered already. read: read it back into
            messages, and stop where that is not exact. keep: give it to the model as text. refuse: stop.
        out: Folder for the report. Default: `evaluation` in the run folder, or in the current folder.
        schema: JSON schema that the json task checks answers against.
        run_code: Let the code task run the answers with the tests of their rows, in a limited process.
        harness: Tasks of EleutherAI's lm-eval to run on the model with its chat template.
        harness_folder: Folder with lm-eval task files of your own.
        sampling: How answers are sampled.
        loading: How the models are loaded.
    """
    if data is None and not harness:
        raise EvaluationError("evaluate: no data to measure on. Expected --data FILE or --harness TASKS. Add one.")
    from instil.evaluation.schema import read_schema

    json_schema = None if schema is None else read_schema(schema)
    prompts = _read_prompts(data, turns, limit)

    from instil.generation.engine import Engine
    from instil.model.folder.location import run_folder

    engine = Engine.load(model, loading)
    run = None if engine.location is None else run_folder(engine.location)
    folder = out or (Path("evaluation") if run is None else run / "evaluation")
    if prompts:
        from instil.generation.prompts import as_messages

        prompts = as_messages(prompts, engine.chat, policy=rendered_rows, turns=turns)
        other = None if against is None else Engine.load(against, loading)
        evaluation = _evaluate(
            engine,
            prompts,
            str(data),
            other,
            task,
            sampling,
            {"schema": json_schema, "run_code": run_code},
            too_long,
        )
        from instil.evaluation.report import to_markdown, write_report

        files = write_report(evaluation, folder)
        print(to_markdown(evaluation))
        print(f"wrote {', '.join(map(str, files))}", file=sys.stderr)
    if harness:
        from instil.evaluation.harness import run_harness

        for line in run_harness(engine, harness, folder=harness_folder, out=folder, limit=limit):
            print(line)


def _read_prompts(data: str | None, turns: Literal["last", "every"], limit: int | None) -> list[Prompt]:
    """Return the prompts of the data, or none where only the harness is to run."""
    if data is None:
        return []
    from instil.generation.prompts import read_prompts

    return read_prompts(data, turns=turns, limit=limit)


def _evaluate(
    engine: Engine,
    prompts: Sequence[Prompt],
    data: str,
    against: Engine | None,
    tasks: list[str] | None,
    sampling: SamplingSettings,
    options: dict[str, Any],
    too_long: TooLongPrompt,
) -> Evaluation:
    """Measure the answers, and count them on standard error if that is a terminal."""
    from instil.evaluation.measure import measure
    from instil.evaluation.tasks import TaskOptions

    total, done, on_terminal = len(prompts) * (2 if against else 1), 0, sys.stderr.isatty()

    def show() -> None:
        nonlocal done
        done += 1
        if on_terminal:
            print(f"\r{done} of {total} answers", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return measure(
        engine,
        prompts,
        tasks=tasks,
        data=data,
        against=against,
        settings=sampling,
        options=TaskOptions(**options),
        too_long=too_long,
        on_answer=show,
        on_note=lambda line: print(line, file=sys.stderr),
    )
