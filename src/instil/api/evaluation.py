"""`instil.evaluate`: measure a model from Python; the command line's `instil evaluate` without its printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from instil.api.arguments import check_choice, check_type, path_of
from instil.api.models import load_model
from instil.data.memory_rows import name_of_sources
from instil.errors import EvaluationError
from instil.generation.settings import LoadSettings, sampling_settings

if TYPE_CHECKING:
    from instil.evaluation.judge import Judge
    from instil.evaluation.results import Evaluation
    from instil.generation.chat_model import ChatModel

_LOADING = frozenset(item.name for item in fields(LoadSettings))


def evaluate(
    model: Any,
    data: Any,
    *,
    tasks: str | Sequence[str] | None = None,
    against: Any = None,
    turns: Literal["last", "every"] = "last",
    limit: int | None = None,
    too_long: Literal["drop", "keep_last_turns", "refuse"] = "drop",
    schema: Mapping[str, Any] | str | PathLike[str] | None = None,
    run_code: bool = False,
    judge: str | Judge | None = None,
    judge_model: str = "",
    out: str | PathLike[str] | None = None,
    on_answer: Callable[[], None] | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a model on rows with reference answers, alone or against another model.

    Args:
        model: What `load_model` returned, or what it takes: a run, a model or adapter folder, a Hub id, ``demo``.
        data: File, folder, glob or Hub id, the rows themselves, or a list of paths and tables.
        tasks: Names of tasks, such as ``numeric``. Default: the tasks that fit the data.
        against: A model to compare with, pair by pair.
        turns: Measure the last assistant turn of a conversation, or every one.
        limit: Largest number of prompts.
        too_long: What to do with a prompt that leaves no room for an answer: leave it out, drop its oldest exchanges,
            or refuse it. The result's `length_notes` name what was left out.
        schema: JSON schema, or the path of its file, that the json task checks answers against.
        run_code: Let the code task run the answers with the tests of their rows, in a limited process.
        judge: Says which of two answers is better: a function of the prompt's messages and two answers that returns
            ``first``, ``second`` or ``tie``; or as text an OpenAI-compatible address, or ``module:function``. Needs
            `against`. Nothing is sent anywhere without it.
        judge_model: Name of the judging model at an address.
        out: Folder for the report. None writes nothing.
        on_answer: Called after each answer.
        **settings: How answers are sampled (`SamplingSettings`) and models are loaded (`LoadSettings`).

    Returns:
        Every figure with its 95% interval; `figures` has the main one of each task.

    Raises:
        ModelError: If there is no such model.
        DataError: If a row cannot be read, or there is no prompt.
        EvaluationError: If a task is unknown or fits no prompt, or an argument is wrong.

    Example:
        >>> result = evaluate("runs/demo", "test.jsonl", tasks=["numeric"])  # doctest: +SKIP
        >>> result.figures["numeric"].value  # doctest: +SKIP
    """
    loading = {name: settings.pop(name) for name in list(settings) if name in _LOADING}
    sampling = sampling_settings(**settings)
    names = _task_names(tasks)
    check_choice("turns", turns, ("last", "every"), EvaluationError)
    check_choice("too_long", too_long, ("drop", "keep_last_turns", "refuse"), EvaluationError)
    check_type("limit", limit, int, EvaluationError, expected="a number of prompts")
    check_type("run_code", run_code, bool, EvaluationError, expected="True or False")
    if on_answer is not None and not callable(on_answer):
        raise EvaluationError(f"on_answer: found {on_answer!r:.80}. Expected a function. Correct the argument.")
    if judge is not None and against is None:
        raise EvaluationError("judge: one model alone. Expected two to compare. Pass against as well.")
    if judge is not None and not isinstance(judge, str) and not callable(judge):
        raise EvaluationError(f"judge: found {judge!r:.80}. Expected a function or a text. Correct the argument.")
    folder = None if out is None else path_of("out", out, EvaluationError)

    # Why: torch takes seconds to import, and a wrong argument is reported before that.
    from instil.evaluation.judge import load_judge
    from instil.evaluation.measure import measure
    from instil.evaluation.report import write_report
    from instil.evaluation.schema import read_schema
    from instil.evaluation.tasks import TaskOptions
    from instil.generation.prompts import select_prompts

    wanted = schema if schema is None or isinstance(schema, Mapping) else read_schema(
        path_of("schema", schema, EvaluationError)
    )  # fmt: skip
    prompts, selection = select_prompts(data, turns=turns, limit=limit)
    evaluation = measure(
        _model(model, loading).engine,
        prompts,
        tasks=names,
        data=name_of_sources(data),
        against=None if against is None else _model(against, loading).engine,
        settings=sampling,
        options=TaskOptions(schema=wanted, run_code=run_code),
        too_long=too_long,
        selection=selection,
        source=data,
        judge=load_judge(judge, model=judge_model) if isinstance(judge, str) else judge,
        on_answer=on_answer or (lambda: None),
    )
    if folder is not None:
        write_report(evaluation, folder)
    return evaluation


def _task_names(tasks: Any) -> list[str] | None:
    if tasks is None or isinstance(tasks, str):
        return None if tasks is None else [tasks]
    if not isinstance(tasks, Sequence) or not tasks or not all(isinstance(name, str) for name in tasks):
        raise EvaluationError(
            f"tasks: found {tasks!r:.80}. Expected names of tasks in a list. Leave it out for those that fit."
        )
    return list(tasks)


def _model(model: Any, loading: Mapping[str, Any]) -> ChatModel:
    # Why: torch takes seconds to import, and a wrong argument is reported before that.
    from instil.generation.chat_model import ChatModel

    if not isinstance(model, ChatModel):
        return load_model(model, **loading)
    if loading:
        raise EvaluationError(
            f"{next(iter(loading))}: the model is loaded already. Expected no settings for loading. Leave it out."
        )
    return model
