"""``instil evaluate``: measure a model on a file, alone or against another model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from instil.cli.evaluation_screen import print_evaluation
from instil.errors import EvaluationError
from instil.generation.settings import GREEDY, LOADING, LoadSettings, SamplingSettings
from instil.screen import Screen, work

if TYPE_CHECKING:
    from instil.evaluation.results import Evaluation
    from instil.generation.engine import Engine
    from instil.generation.prompt_length import TooLongPrompt
    from instil.generation.prompts import Prompt, Selection


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
    judge: str | None = None,
    judge_model: str = "",
    harness: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    harness_folder: Path | None = None,
    as_json: Annotated[bool, Parameter(name="json")] = False,
    quiet: bool = False,
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
            behaviour, multi_turn, system_prompt, preference. Default: the tasks that fit the data.
        turns: Measure the last assistant turn of a conversation, or every one.
        limit: Largest number of prompts.
        too_long: What to do with a prompt that leaves no room for an answer in a model's context. drop: leave it out.
            keep_last_turns: drop its oldest exchanges. refuse: stop. What was left out is counted and listed.
        rendered_rows: What to do with a row that a chat template has rendered already. read: read it back into
            messages, and stop where that is not exact. keep: give it to the model as text. refuse: stop.
        out: Folder for the report. Default: `evaluation` in the run folder, or in the current folder.
        schema: JSON schema that the json task checks answers against.
        run_code: Let the code task run the answers with the tests of their rows, in a limited process.
        judge: Let a judge say which model's answer is better: an OpenAI-compatible address such as
            http://localhost:8000/v1, or module:function. Needs --against. Nothing is sent anywhere without it.
        judge_model: Name of the judging model at that address. Default: the first that it lists.
        harness: Tasks of EleutherAI's lm-eval to run on the model with its chat template.
        harness_folder: Folder with lm-eval task files of your own.
        as_json: Print figures and comparisons as JSON; evaluation.json has the answers too.
        quiet: Print only the result, warnings and errors.
        sampling: How answers are sampled.
        loading: How the models are loaded.
    """
    if data is None and not harness:
        raise EvaluationError("evaluate: no data to measure on. Expected --data FILE or --harness TASKS. Add one.")
    from instil.evaluation.schema import read_schema

    if judge is not None and against is None:
        raise EvaluationError("--judge: one model alone. Expected two to compare. Add --against MODEL.")
    json_schema = None if schema is None else read_schema(schema)
    prompts, selection = _read_prompts(data, turns, limit)

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
            selection,
            judge=(judge, judge_model),
        )
        from instil.evaluation.report import to_json, write_report

        files = write_report(evaluation, folder)
        if as_json:
            values = to_json(evaluation)
            print(json.dumps({name: value for name, value in values.items() if name != "rows"}, indent=1))
        else:
            print_evaluation(Screen(quiet=quiet), evaluation)
        Screen(stderr=True, quiet=quiet).done(f"wrote {', '.join(map(str, files))}")
    if harness:
        from instil.evaluation.harness import run_harness

        for line in run_harness(engine, harness, folder=harness_folder, out=folder, limit=limit):
            print(line)


def _read_prompts(
    data: str | None, turns: Literal["last", "every"], limit: int | None
) -> tuple[list[Prompt], Selection | None]:
    """Return the prompts of the data, or none where only the harness is to run."""
    if data is None:
        return [], None
    from instil.generation.prompts import select_prompts

    return select_prompts(data, turns=turns, limit=limit)


def _evaluate(
    engine: Engine,
    prompts: Sequence[Prompt],
    data: str,
    against: Engine | None,
    tasks: list[str] | None,
    sampling: SamplingSettings,
    options: dict[str, Any],
    too_long: TooLongPrompt,
    selection: Selection | None,
    *,
    judge: tuple[str | None, str],
) -> Evaluation:
    """Measure the answers, with a bar on a terminal."""
    from instil.evaluation.judge import load_judge
    from instil.evaluation.measure import measure
    from instil.evaluation.tasks import TaskOptions

    judging = None if judge[0] is None else load_judge(judge[0], model=judge[1])
    with work("answering", total=len(prompts) * (2 if against else 1), unit="answers") as bar:
        return measure(
            engine,
            prompts,
            tasks=tasks,
            data=data,
            against=against,
            settings=sampling,
            options=TaskOptions(**options),
            too_long=too_long,
            selection=selection,
            source=data,
            judge=judging,
            on_answer=bar.advance,
            on_note=Screen(stderr=True).warn,
        )
