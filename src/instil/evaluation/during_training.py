"""Tasks during training: a few held-out prompts, answered and judged every ``evaluate.every`` steps.

Training passes its own model and template. It writes the figures into metrics.jsonl, next to the held-out loss.
"""

from __future__ import annotations

from collections.abc import Sequence

from instil.conversation import Conversation
from instil.errors import DataError, EvaluationError
from instil.evaluation.cases import Case
from instil.evaluation.dialogue import DIALOGUE_TASKS
from instil.evaluation.intervals import Interval, mean_interval
from instil.evaluation.meanings import meaning_of
from instil.evaluation.preference import PREFERENCE
from instil.evaluation.tasks import TASKS, TaskOptions, judged, make_tasks, options_for
from instil.generation.engine import Engine
from instil.generation.prompts import Prompt, prompts_of
from instil.generation.settings import SamplingSettings


def check_tasks(names: Sequence[str]) -> None:
    """Check before a run starts that every task exists and judges one answer per prompt.

    Raises:
        EvaluationError: If a task is unknown or needs more than one answer per prompt.

    Example:
        >>> check_tasks(["exact_match", "numeric"])
        >>> check_tasks(["multi_turn"])
        Traceback (most recent call last):
        instil.errors.EvaluationError: evaluate.tasks: multi_turn needs more than one answer per prompt. ...
    """
    for name in names:
        if name == PREFERENCE:
            raise EvaluationError(
                f"evaluate.tasks: {name} is measured in every run of an objective that compares answers, as "
                "heldout_accuracy. Leave it out here."
            )
        if name in DIALOGUE_TASKS:
            raise EvaluationError(
                f"evaluate.tasks: {name} needs more than one answer per prompt. Expected during training one of "
                f"{', '.join(TASKS)}. Run `instil evaluate` with {name} after training."
            )
    make_tasks(names, TaskOptions())


def task_meanings(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the main figure of each task, as ``task.figure``, with what it means.

    Example:
        >>> task_meanings(["classification"])
        [('classification.accuracy', "answers that name the reference's label and no other")]
    """
    tasks = [task for task in make_tasks(names, TaskOptions()) if task.name in names]
    return [(f"{task.name}.{task.main}", meaning_of(task.name, task.main)) for task in tasks]


def heldout_prompts(conversations: Sequence[Conversation], *, most: int) -> list[Prompt]:
    """Return the last turns of held-out conversations as prompts, at most `most`.

    Plain text and conversations without a question or a reference answer are left out.
    """
    prompts: list[Prompt] = []
    for conversation in conversations:
        if conversation.plain or len(prompts) == most:
            continue
        try:
            (prompt,) = prompts_of(conversation)
        except DataError:  # no message to answer
            continue
        if prompt.reference is not None:
            prompts.append(prompt)
    return prompts


def task_figures(
    engine: Engine, prompts: Sequence[Prompt], *, tasks: Sequence[str], max_new_tokens: int
) -> dict[str, Interval]:
    """Answer prompts greedily and return the figures of every task under ``task.figure``.

    A task that fits no prompt has no figure.

    Args:
        engine: The current model. Its mode (training or evaluation) is restored afterwards.
        prompts: The prompts, from `heldout_prompts`.
        tasks: Names of tasks; `behaviour` is always added.
        max_new_tokens: Largest number of tokens of an answer.
    """
    chosen_tasks = make_tasks(tasks, options_for(prompts, TaskOptions()))
    answers = engine.answer(
        [prompt.conversation for prompt in prompts], SamplingSettings(max_new_tokens=max_new_tokens)
    )
    cases = [Case(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    figures: dict[str, Interval] = {}
    for task in chosen_tasks:
        judgements = judged(task, cases)
        for name in dict.fromkeys(name for _, scores in judgements for name in scores):
            values = [scores[name] for _, scores in judgements if name in scores]
            figures[f"{task.name}.{name}"] = mean_interval(values)
    return figures
