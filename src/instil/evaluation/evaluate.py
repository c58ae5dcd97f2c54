"""Evaluates a model on prompts, beside another one if asked.

Answers are greedy unless told otherwise and both models are asked the same prompts with the same settings; everything that could
change a figure (settings, seed, template, versions) is in the result.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

from instil.conversation import Conversation, Message
from instil.errors import EvaluationError
from instil.evaluation.cases import Case, Task
from instil.evaluation.comparison import Comparison, compare, compare_losses
from instil.evaluation.contamination import Contamination
from instil.evaluation.dialogue import DIALOGUE_TASKS, NEEDS, fits, play
from instil.evaluation.heldout import HeldoutLoss, heldout_loss
from instil.evaluation.intervals import Interval, mean_interval
from instil.evaluation.slices import slices_of
from instil.evaluation.tasks import TaskOptions, judged, make_tasks, options_for
from instil.generation.engine import Answer, Engine
from instil.generation.prompts import Prompt
from instil.generation.sampling import Generated
from instil.generation.settings import SamplingSettings

PACKAGES = ("instil", "torch", "transformers", "tokenizers", "sacrebleu", "rouge-score", "jsonschema")
HELDOUT = "heldout_loss"
"""Name of the paired comparison of losses, where the lower one wins."""
NO_ANSWER = Answer(
    text="",
    message=Message("assistant", ""),
    generated=Generated(token_ids=(), finish_reason="stop", stop_id=None, seed=0),
    prompt_ids=(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFigure:
    """A task's main figure on a group of prompts."""

    kind: str
    name: str
    task: str
    figure: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """What one model reached.

    Attributes:
        name: As the person gave it.
        figures: Figures by task and name.
        details: What else tasks report, by task.
        slices: The tasks' main figures on groups of prompts.
        heldout: Loss and perplexity on the data's own answers; None where there are none, or no template.
        answers: What it said, in the order of the prompts.
        scores: Every case's scores, by task; None where the task does not apply.
        facts: Template hash, stop tokens, precision, device, seconds, tokens.
    """

    name: str
    figures: Mapping[str, Mapping[str, Interval]]
    details: Mapping[str, Mapping[str, Any]]
    slices: Sequence[SliceFigure]
    heldout: HeldoutLoss | None
    answers: Sequence[Case]
    scores: Mapping[str, Sequence[Mapping[str, float] | None]]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A whole evaluation.

    Attributes:
        data: Where the prompts came from.
        prompts: What was asked.
        tasks: Names of the tasks and their main figures.
        settings: How answers were sampled.
        model: The model's result.
        against: The other's, or None.
        comparisons: By task: the model's main figure against the other's, pair by pair; under `HELDOUT` the losses.
        contamination: Overlap with the training data, where that is known.
        versions: Of Python and the packages that matter.
    """

    data: str
    prompts: Sequence[Prompt]
    tasks: Mapping[str, str]
    settings: SamplingSettings
    model: ModelResult
    against: ModelResult | None
    comparisons: Mapping[str, Comparison]
    contamination: Contamination | None
    versions: Mapping[str, str]


def evaluate(
    engine: Engine,
    prompts: Sequence[Prompt],
    *,
    tasks: Sequence[str],
    data: str = "prompts",
    against: Engine | None = None,
    settings: SamplingSettings | None = None,
    options: TaskOptions | None = None,
    contamination: Contamination | None = None,
    on_answer: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate a model.

    Args:
        engine: The model.
        prompts: What to ask; references are compared with.
        tasks: Names of tasks (`tasks.TASKS` and `dialogue.DIALOGUE_TASKS`); `behaviour` is always added.
        data: Name of the data, for the report.
        against: A model to compare with.
        settings: Greedy with 256 tokens unless given.
        options: What some tasks need.
        contamination: Overlap with training data, measured before.
        on_answer: Called after each answer, for a progress bar.

    Raises:
        EvaluationError: On an unknown task, or one that no prompt fits.
    """
    settings = replace(settings or SamplingSettings(), num_answers=1)
    if settings.seed is None:
        settings = replace(settings, seed=0)
    dialogues = [name for name in tasks if name in DIALOGUE_TASKS]
    made = make_tasks(
        [name for name in tasks if name not in DIALOGUE_TASKS], options_for(prompts, options or TaskOptions())
    )
    _check_fit(made, dialogues, prompts, data=data)
    ours = _result(engine, prompts, tasks=made, dialogues=dialogues, settings=settings, on_answer=on_answer)
    theirs = None
    if against is not None:
        theirs = _result(against, prompts, tasks=made, dialogues=dialogues, settings=settings, on_answer=on_answer)
    mains = {task.name: task.main for task in made} | {name: DIALOGUE_TASKS[name] for name in dialogues}
    return Evaluation(
        data=data,
        prompts=prompts,
        tasks=mains,
        settings=settings,
        model=ours,
        against=theirs,
        comparisons={} if theirs is None else _comparisons(mains, ours, theirs),
        contamination=contamination,
        versions=_versions(),
    )


def _result(
    engine: Engine,
    prompts: Sequence[Prompt],
    *,
    tasks: Sequence[Task],
    dialogues: Sequence[str],
    settings: SamplingSettings,
    on_answer: Callable[[], None],
) -> ModelResult:
    start = time.perf_counter()
    answers = engine.answer(
        [prompt.conversation for prompt in prompts], settings, on_answer=lambda _number, _answer: on_answer()
    )
    seconds = time.perf_counter() - start
    cases = [Case(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    by_case = {task.name: dict(judged(task, cases)) for task in tasks}
    by_case |= {name: play(name, engine, cases, settings) for name in dialogues}
    scores = {name: [found.get(number) for number in range(len(cases))] for name, found in by_case.items()}
    figures = {name: _figures(list(found.values())) for name, found in by_case.items()}
    details: dict[str, Mapping[str, Any]] = {}
    for task in tasks:
        kept = [cases[number] for number in by_case[task.name]]
        if task.whole and kept:
            figures[task.name] |= task.whole(kept)
        if task.details and kept:
            details[task.name] = task.details(kept)
    return ModelResult(
        name=engine.name,
        figures=figures,
        details=details,
        slices=_slices({task.name: task.main for task in tasks}, cases, scores),
        heldout=heldout_loss(engine, _referenced(prompts)),
        answers=cases,
        scores=scores,
        facts=_facts(engine, cases, seconds),
    )


def _check_fit(tasks: Sequence[Task], dialogues: Sequence[str], prompts: Sequence[Prompt], *, data: str) -> None:
    """Refuse a task that no prompt fits, before anything is asked."""
    for task in tasks:
        if all(task.judge(Case(prompt, NO_ANSWER)) is None for prompt in prompts):
            raise EvaluationError(
                f"{data}: task {task.name} fits no prompt (it measures: {task.summary}); choose tasks that the data has "
                "references for"
            )
    for name in dialogues:
        if not any(fits(name, prompt) for prompt in prompts):
            raise EvaluationError(
                f"{data}: task {name} fits no prompt; it needs rows with {NEEDS[name]}; choose others"
            )


def _figures(scores: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    names = dict.fromkeys(name for case in scores for name in case)
    return {name: mean_interval([case[name] for case in scores if name in case]) for name in names}


def _slices(
    tasks: Mapping[str, str], cases: Sequence[Case], scores: Mapping[str, Sequence[Mapping[str, float] | None]]
) -> list[SliceFigure]:
    found = []
    for group in slices_of(cases):
        for task, main in tasks.items():
            rows = [scores[task][number] for number in group.numbers]
            values = [row[main] for row in rows if row is not None and main in row]
            if values:
                found.append(SliceFigure(kind=group.kind, name=group.name, task=task, figure=mean_interval(values)))
    return found


def _comparisons(tasks: Mapping[str, str], ours: ModelResult, theirs: ModelResult) -> dict[str, Comparison]:
    comparisons = {}
    for task, main in tasks.items():
        pairs = [
            (a[main], b[main])
            for a, b in zip(ours.scores[task], theirs.scores[task], strict=True)
            if a is not None and b is not None and main in a and main in b
        ]
        if pairs:
            comparisons[task] = compare([a for a, _ in pairs], [b for _, b in pairs])
    if ours.heldout and theirs.heldout:
        losses = compare_losses(ours.heldout.each, theirs.heldout.each)
        comparisons |= {} if losses is None else {HELDOUT: losses}
    return comparisons


def _referenced(prompts: Sequence[Prompt]) -> list[Conversation]:
    """Give the conversations whose answers are known, each once: the prompts of one row stand together, the longest last."""
    found: list[Conversation] = []
    before: Prompt | None = None
    for prompt in prompts:
        same_row = before is not None and prompt.place == before.place and prompt.turn > before.turn
        if prompt.reference is not None:
            whole = replace(prompt.conversation, messages=(*prompt.conversation.messages, prompt.reference))
            found[len(found) - (1 if same_row and found else 0) :] = [whole]
            before = prompt
    return found


def _facts(engine: Engine, cases: Sequence[Case], seconds: float) -> dict[str, Any]:
    parameter = next(engine.model.parameters())
    tokens = sum(case.answer.generated.num_tokens for case in cases)
    return {
        "template": None if engine.chat is None else engine.chat.template.fingerprint,
        "stop_tokens": [engine.tokenizer.convert_ids_to_tokens(token_id) for token_id in engine.stop_ids],
        "precision": str(parameter.dtype).removeprefix("torch."),
        "device": str(parameter.device),
        "seconds": round(seconds, 2),
        "generated_tokens": tokens,
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def settings_of(evaluation: Evaluation) -> dict[str, Any]:
    """Give the decoding settings as JSON values."""
    return asdict(evaluation.settings)
