"""The same tasks while training goes on: a few held-out prompts, every ``evaluate.every`` steps.

Training calls this with its own model and template; the figures go into metrics.jsonl beside the held-out loss.
"""

from __future__ import annotations

from collections.abc import Sequence

from instil.conversation import Conversation
from instil.errors import DataError, EvaluationError
from instil.evaluation.cases import Case
from instil.evaluation.dialogue import DIALOGUE_TASKS
from instil.evaluation.intervals import Interval, mean_interval
from instil.evaluation.tasks import TASKS, TaskOptions, judged, make_tasks, options_for
from instil.generation.engine import Engine
from instil.generation.prompts import Prompt, prompts_of
from instil.generation.settings import SamplingSettings


def check_tasks(names: Sequence[str]) -> None:
    """Refuse tasks that do not exist or ask more than one answer a prompt, before a run starts.

    Raises:
        EvaluationError: If there is such a name.

    Example:
        >>> check_tasks(["exact_match", "numeric"])
        >>> check_tasks(["multi_turn"])
        Traceback (most recent call last):
        instil.errors.EvaluationError: evaluate.tasks: multi_turn asks more than one answer a prompt; ...
    """
    for name in names:
        if name in DIALOGUE_TASKS:
            raise EvaluationError(
                f"evaluate.tasks: {name} asks more than one answer a prompt; allowed while training: {', '.join(TASKS)}; "
                "run `instil evaluate` afterwards"
            )
    make_tasks(names, TaskOptions())


def heldout_prompts(conversations: Sequence[Conversation], *, most: int) -> list[Prompt]:
    """Give the last turns of held-out conversations as prompts; plain text and rows without a question are left out."""
    prompts: list[Prompt] = []
    for conversation in conversations:
        if conversation.plain or len(prompts) == most:
            continue
        try:
            (prompt,) = prompts_of(conversation)
        except DataError:
            continue
        if prompt.reference is not None:
            prompts.append(prompt)
    return prompts


def task_figures(
    engine: Engine, prompts: Sequence[Prompt], *, tasks: Sequence[str], max_new_tokens: int
) -> dict[str, Interval]:
    """Answer prompts greedily and give each task's figures as ``task.figure``; a task that fits no prompt gives none.

    Args:
        engine: The model as it is now; its mode is as before afterwards.
        prompts: What to ask, as `heldout_prompts` gives it.
        tasks: Names of tasks; `behaviour` is always among them.
        max_new_tokens: Longest answer.
    """
    made = make_tasks(tasks, options_for(prompts, TaskOptions()))
    answers = engine.answer(
        [prompt.conversation for prompt in prompts], SamplingSettings(max_new_tokens=max_new_tokens)
    )
    cases = [Case(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    figures: dict[str, Interval] = {}
    for task in made:
        found = judged(task, cases)
        for name in dict.fromkeys(name for _, scores in found for name in scores):
            values = [scores[name] for _, scores in found if name in scores]
            figures[f"{task.name}.{name}"] = mean_interval(values)
    return figures
