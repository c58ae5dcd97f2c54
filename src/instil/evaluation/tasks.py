"""The table of tasks that judge one answer per prompt.

To add a task, write its judge in a module of this folder, a function below that builds it, and one line in `TASKS`. A
task skips the rows that it does not apply to; n next to every figure is the number of judged rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from instil.errors import EvaluationError, nearest
from instil.evaluation import classification, code_running, extraction, writing_scores
from instil.evaluation.behaviour import judge_behaviour
from instil.evaluation.cases import Case, Task
from instil.evaluation.constraints import judge_constraints
from instil.evaluation.letters import choices_of, chosen_letter, judge_choice
from instil.evaluation.matching import judge_exact, normalise
from instil.evaluation.numbers import final_number, judge_number
from instil.generation.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Options of the tasks that have some.

    Attributes:
        labels: Labels of the classification task. Empty: the references.
        schema: JSON schema of the json task.
        run_code: Whether the code task may run the answers with the tests of their rows.
    """

    labels: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    run_code: bool = False


def _exact(_: TaskOptions) -> Task:
    return Task(
        name="exact_match",
        summary="answer equals the reference after normalising",
        main="exact_match",
        judge=judge_exact,
    )


def _numeric(_: TaskOptions) -> Task:
    return Task(name="numeric", summary="same final number (#### or last)", main="numeric", judge=judge_number)


def _choice(_: TaskOptions) -> Task:
    return Task(name="choice", summary="same letter in a multiple choice", main="choice", judge=judge_choice)


def _classification(options: TaskOptions) -> Task:
    return Task(
        name="classification",
        summary="same label",
        main="accuracy",
        judge=classification.make_judge(options.labels),
        corpus_figures=classification.macro_f1,
        corpus_differences=classification.macro_f1_difference,
        details=classification.confusion,
    )


def _json(options: TaskOptions) -> Task:
    judge = extraction.make_judge(options.schema)
    return Task(name="json", summary="valid JSON, matches the schema, right fields", main="valid_json", judge=judge)


def _translation(_: TaskOptions) -> Task:
    return Task(
        name="translation",
        summary="BLEU and chrF by sacreBLEU",
        main="chrf_sentence",
        judge=writing_scores.judge_translation,
        corpus_figures=writing_scores.translation_figures,
        corpus_differences=writing_scores.translation_differences,
        details=writing_scores.translation_details,
    )


def _summary(_: TaskOptions) -> Task:
    return Task(
        name="summary",
        summary="ROUGE",
        main="rougelsum",
        judge=writing_scores.judge_summary,
        details=writing_scores.summary_details,
    )


def _code(options: TaskOptions) -> Task:
    judge = code_running.make_judge(run_tests=options.run_code)
    main = "passes_tests" if options.run_code else "compiles"
    return Task(name="code", summary="code compiles; with --run-code its tests pass", main=main, judge=judge)


def _constraints(_: TaskOptions) -> Task:
    return Task(
        name="constraints",
        summary="instructions that code can check are kept",
        main="all_kept",
        judge=judge_constraints,
    )


def _behaviour(_: TaskOptions) -> Task:
    return Task(
        name="behaviour",
        summary="answers stop, are not empty and do not repeat themselves",
        main="stops",
        judge=judge_behaviour,
    )


TASKS: Mapping[str, Callable[[TaskOptions], Task]] = {
    "exact_match": _exact,
    "numeric": _numeric,
    "choice": _choice,
    "classification": _classification,
    "json": _json,
    "translation": _translation,
    "summary": _summary,
    "code": _code,
    "constraints": _constraints,
    "behaviour": _behaviour,
}
"""The function that builds each task, by name. `dialogue` has the tasks that need more than one answer per prompt."""


def make_tasks(names: Sequence[str], options: TaskOptions) -> list[Task]:
    """Return the tasks of these names, without duplicates, and `behaviour`.

    Raises:
        EvaluationError: If a name is unknown.
    """
    for name in names:
        if name not in TASKS:
            raise EvaluationError(
                f"tasks: no task {name!r}{nearest(name, TASKS)}. Expected one of {', '.join(TASKS)}. Correct the name."
            )
    return [TASKS[name](options) for name in dict.fromkeys((*names, "behaviour"))]


def suggest_tasks(prompts: Sequence[Prompt]) -> list[str]:
    r"""Return the tasks that fit the first 200 prompts, for a call that names none.

    Example:
        >>> from instil.conversation import Conversation, Message
        >>> suggest_tasks([Prompt(Conversation((Message("user", "2+2"),)), Message("assistant", "4\n#### 4"))])
        ['numeric']
    """
    references = [prompt.reference_text for prompt in prompts[:200] if prompt.reference_text]
    columns = [prompt.conversation.extra for prompt in prompts[:200]]
    # Tasks that need no reference come first; they are added to whatever the references suggest.
    names = []
    if any(row.get("constraints") for row in columns):
        names.append("constraints")
    if any(row.get(key) for row in columns for key in ("test", "tests", "test_list", "unit_tests")):
        names.append("code")
    if not references:
        return names
    # Of the tasks on references the most specific one wins: a letter or a number is a text too.
    if sum("####" in text and final_number(text) is not None for text in references) > len(references) / 2:
        return [*names, "numeric"]
    if any(choices_of(row) for row in columns) or all(len(text) <= 3 and chosen_letter(text) for text in references):
        return [*names, "choice"]
    if all(text.lstrip()[:1] in ("{", "[") for text in references):
        return [*names, "json"]
    # Code is judged by its tests; equal texts would be too strict.
    return names if "code" in names else [*names, "exact_match"]


def options_for(prompts: Sequence[Prompt], options: TaskOptions) -> TaskOptions:
    """Return the options with the labels of the classification task taken from the references, if there are none."""
    if options.labels:
        return options
    labels = sorted({normalise(text) for prompt in prompts if (text := prompt.reference_text)})
    return replace(options, labels=tuple(labels))


def judged(task: Task, cases: Sequence[Case]) -> list[tuple[int, dict[str, float]]]:
    """Return (index of the case, scores) for each case that the task applies to."""
    judgements = []
    for number, case in enumerate(cases):
        scores = task.judge(case)
        if scores is not None:
            judgements.append((number, dict(scores)))
    return judgements
