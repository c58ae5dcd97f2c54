"""Evaluate a model on prompts, alone or against another model.

Answers are greedy by default, and both models answer the same prompts with the same settings. The result records all
that could change a figure: settings, seed, template and versions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from instil.conversation import Conversation, Message
from instil.environment.packages import installed_versions
from instil.errors import EvaluationError
from instil.evaluation.cases import Case, Task
from instil.evaluation.comparability import not_comparable, not_measured
from instil.evaluation.comparison import Comparison, SetDifference, compare, compare_losses
from instil.evaluation.contamination import Contamination
from instil.evaluation.dialogue import DIALOGUE_TASKS, NEEDS, fits, play
from instil.evaluation.figure_table import HELDOUT
from instil.evaluation.heldout import heldout_loss
from instil.evaluation.intervals import Interval, mean_interval
from instil.evaluation.judge import JUDGE, WIN_RATE, Judge, judged_results
from instil.evaluation.meanings import LOSS, PERPLEXITY
from instil.evaluation.preference import MAIN, NO_TEMPLATE, PREFERENCE, Pairs, score_pairs
from instil.evaluation.results import Evaluation, ModelResult, SliceFigure
from instil.evaluation.slices import slices_of
from instil.evaluation.tasks import TaskOptions, judged, make_tasks, options_for
from instil.generation.decoding import context_limit
from instil.generation.engine import Answer, Engine
from instil.generation.prompt_length import TooLongPrompt, fit_prompts
from instil.generation.prompts import Prompt, Selection
from instil.generation.sampling import Generated
from instil.generation.settings import SamplingSettings
from instil.units import counted

PACKAGES = ("instil", "torch", "transformers", "tokenizers", "sacrebleu", "rouge-score", "jsonschema", "py3langid")
NO_ANSWER = Answer(
    text="",
    message=Message("assistant", ""),
    generated=Generated(token_ids=(), finish_reason="stop", stop_id=None, seed=0),
    prompt_ids=(),
)
"""An empty answer, to find out whether a task applies to a prompt."""


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
    too_long: TooLongPrompt = "drop",
    selection: Selection | None = None,
    pairs: Pairs | None = None,
    judge: Judge | None = None,
    on_answer: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate a model on prompts.

    Args:
        engine: The model.
        prompts: The prompts, with the references that answers are compared with.
        tasks: Names of tasks (`tasks.TASKS` and `dialogue.DIALOGUE_TASKS`); `behaviour` is always added.
        data: Name of the data in the report.
        against: A model to compare with.
        settings: How answers are sampled. Default: greedy, at most 256 tokens. There is always one answer per prompt.
        options: Options of some tasks.
        contamination: Overlap with the training data, if it was measured.
        too_long: What to do with a prompt that is too long for one of the models; see `fit_prompts`.
        selection: Which prompts of the data these are. Default: all of them.
        pairs: The two answers of rows, for the task ``preference``.
        judge: Says which of two answers is better, for the task ``judge``; needs `against`.
        on_answer: Called after each answer, for example by a progress bar.

    Raises:
        EvaluationError: If a task is unknown or applies to no prompt, or every prompt is too long.
        GenerationError: If a prompt is too long and the policy is to refuse.
    """
    selection = selection or Selection(num_taken=len(prompts), total=len(prompts))
    prompts, length_notes = _fitted(prompts, [engine, *([against] if against else [])], too_long, data=data)
    settings = replace(settings or SamplingSettings(), num_answers=1)
    if settings.seed is None:
        settings = replace(settings, seed=0)
    dialogues = [name for name in tasks if name in DIALOGUE_TASKS]
    if PREFERENCE in tasks and not pairs:
        raise EvaluationError(
            f"{data}: task {PREFERENCE} fits no prompt. Expected rows with a chosen and a rejected answer. Choose tasks "
            "that fit the data."
        )
    pairs = pairs if PREFERENCE in tasks else None
    single_tasks = make_tasks(
        [name for name in tasks if name not in DIALOGUE_TASKS and name != PREFERENCE],
        options_for(prompts, options or TaskOptions()),
    )
    _check_fit(single_tasks, dialogues, prompts, data=data)
    plan = _Plan(single_tasks, dialogues, settings, pairs)
    ours = _result(engine, prompts, plan, on_answer=on_answer)
    theirs = None if against is None else _result(against, prompts, plan, on_answer=on_answer)
    if judge is not None:
        if theirs is None:
            raise EvaluationError("judge: one model alone. Expected two to compare. Add --against MODEL.")
        ours, theirs = judged_results(ours, theirs, judge)
    differing = {} if theirs is None else not_comparable(ours, theirs)
    mains = {task.name: task.main for task in single_tasks} | {name: DIALOGUE_TASKS[name] for name in dialogues}
    mains |= ({} if pairs is None else {PREFERENCE: MAIN}) | ({} if judge is None else {JUDGE: WIN_RATE})
    return Evaluation(
        data=data,
        prompts=prompts,
        tasks=mains,
        settings=settings,
        model=ours,
        against=theirs,
        comparisons={} if theirs is None else _comparisons(mains, ours, theirs, without=differing),
        secondary={}
        if theirs is None
        else _secondary(mains, ours, theirs, without=differing)
        | _set_differences(single_tasks, ours, theirs, without=differing),
        not_compared=differing,
        selection=str(selection),
        total_prompts=selection.total,
        contamination=contamination,
        length_notes=[*length_notes, *_unmeasured(ours, theirs)],
        versions=installed_versions(PACKAGES),
    )


def _fitted(
    prompts: Sequence[Prompt], engines: Sequence[Engine], too_long: TooLongPrompt, *, data: str
) -> tuple[Sequence[Prompt], list[str]]:
    """Return the prompts that fit every model, so that all of them answer the same ones."""
    notes: list[str] = []
    for engine in engines:
        fitted = fit_prompts(prompts, engine.prompt, limit=context_limit(engine.model), too_long=too_long)
        notes += [f"{engine.name}: {line}" for line in fitted.summary()]
        prompts = fitted.prompts
    if not prompts:
        raise EvaluationError(
            f"{data}: every prompt is too long ({notes[0]}). Expected prompts that leave room for an answer. "
            "Use --too-long keep_last_turns, or shorter prompts."
        )
    return prompts, notes


def _unmeasured(*results: ModelResult | None) -> list[str]:
    """Return a line for each model whose loss leaves out conversations that are longer than its context."""
    return [
        f"{result.name}: the loss leaves out {counted(result.heldout.too_long, 'conversation')} longer than the context"
        for result in results
        if result is not None and result.heldout is not None and result.heldout.too_long
    ]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is measured of each model.

    Attributes:
        tasks: Tasks that judge one answer.
        dialogues: Names of the tasks that need more answers.
        settings: How answers are sampled.
        pairs: The two answers of rows, for the task ``preference``.
    """

    tasks: Sequence[Task]
    dialogues: Sequence[str]
    settings: SamplingSettings
    pairs: Pairs | None


def _result(engine: Engine, prompts: Sequence[Prompt], plan: _Plan, *, on_answer: Callable[[], None]) -> ModelResult:
    """Answer the prompts once and judge the answers in every task."""
    tasks, settings = plan.tasks, plan.settings
    start = time.perf_counter()
    answers = engine.answer(
        [prompt.conversation for prompt in prompts], settings, on_answer=lambda _number, _answer: on_answer()
    )
    seconds = time.perf_counter() - start
    cases = [Case(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    missing = not_measured(engine, settings)
    # By task: index of a case -> its scores. A case that a task does not apply to is missing there.
    by_task = {task.name: _measured(task.name, dict(judged(task, cases)), without=missing) for task in tasks}
    by_task |= {name: play(name, engine, cases, settings) for name in plan.dialogues}
    of_pairs: dict[str, Interval] = {}
    if plan.pairs is not None:
        by_task[PREFERENCE], of_pairs = score_pairs(engine, cases, plan.pairs)
        missing |= {} if engine.chat is not None else {f"{PREFERENCE}.{MAIN}": NO_TEMPLATE}
    scores = {name: [by_case.get(number) for number in range(len(cases))] for name, by_case in by_task.items()}
    figures = {name: _figures(list(by_case.values())) for name, by_case in by_task.items()}
    if plan.pairs is not None:
        figures[PREFERENCE] |= of_pairs
    details: dict[str, Mapping[str, Any]] = {}
    for task in tasks:
        # Figures of the corpus come from the same cases as the means, so that every n of a task agrees.
        judged_cases = [cases[number] for number in by_task[task.name]]
        if task.corpus_figures and judged_cases:
            figures[task.name] |= task.corpus_figures(judged_cases)
        if task.details and judged_cases:
            details[task.name] = task.details(judged_cases)
    return ModelResult(
        name=engine.name,
        figures=figures,
        details=details,
        slices=_slices({task.name: task.main for task in tasks}, cases, scores),
        heldout=heldout_loss(engine, _referenced(prompts)),
        answers=cases,
        scores=scores,
        facts=_facts(engine, cases, seconds),
        has_template=engine.chat is not None,
        not_measured={name: reason for name, reason in missing.items() if name.partition(".")[0] in figures},
    )


def _measured(
    task: str, by_case: Mapping[int, Mapping[str, float]], *, without: Collection[str]
) -> dict[int, dict[str, float]]:
    """Return the scores of a task without the figures that the model cannot have."""
    return {
        number: {name: score for name, score in scores.items() if f"{task}.{name}" not in without}
        for number, scores in by_case.items()
    }


def _check_fit(tasks: Sequence[Task], dialogues: Sequence[str], prompts: Sequence[Prompt], *, data: str) -> None:
    """Check before the first answer that every task applies to at least one prompt."""
    for task in tasks:
        if all(task.judge(Case(prompt, NO_ANSWER)) is None for prompt in prompts):
            raise EvaluationError(
                f"{data}: task {task.name} fits no prompt. Expected rows with what it compares ({task.summary}). "
                "Choose tasks that fit the data."
            )
    for name in dialogues:
        if not any(fits(name, prompt) for prompt in prompts):
            raise EvaluationError(
                f"{data}: task {name} fits no prompt. Expected rows with {NEEDS[name]}. Choose tasks that fit the data."
            )


def _figures(scores: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    names = dict.fromkeys(name for case in scores for name in case)
    return {name: mean_interval([case[name] for case in scores if name in case]) for name in names}


def _slices(
    tasks: Mapping[str, str], cases: Sequence[Case], scores: Mapping[str, Sequence[Mapping[str, float] | None]]
) -> list[SliceFigure]:
    figures = []
    for group in slices_of(cases):
        for task, main in tasks.items():
            rows = [scores[task][number] for number in group.numbers]
            values = [row[main] for row in rows if row is not None and main in row]
            if values:
                figures.append(SliceFigure(kind=group.kind, name=group.name, task=task, figure=mean_interval(values)))
    return figures


def _comparisons(
    tasks: Mapping[str, str], ours: ModelResult, theirs: ModelResult, *, without: Collection[str]
) -> dict[str, Comparison]:
    """Compare the main figures, and the losses, except those that are not the same thing in both models."""
    comparisons: dict[str, Comparison] = {}
    for task, main in tasks.items():
        if f"{task}.{main}" in without:
            continue
        compared = _compared(task, main, ours, theirs)
        comparisons |= {} if compared is None else {task: compared}
    if ours.heldout and theirs.heldout and LOSS not in without:
        losses = compare_losses(ours.heldout.per_conversation, theirs.heldout.per_conversation)
        comparisons |= {} if losses is None else {HELDOUT: losses}
    return comparisons


def _secondary(
    tasks: Mapping[str, str], ours: ModelResult, theirs: ModelResult, *, without: Collection[str]
) -> dict[str, Comparison | SetDifference]:
    """Compare the other figures that single answers have, as ``task.figure``, and the perplexities."""
    comparisons: dict[str, Comparison | SetDifference] = {}
    for task, main in tasks.items():
        for name in ours.figures[task]:
            compared = _compared(task, name, ours, theirs) if name != main else None
            if compared is not None and f"{task}.{name}" not in without:
                comparisons[f"{task}.{name}"] = compared
    if ours.heldout and theirs.heldout and LOSS not in without:
        perplexities = compare_losses(ours.heldout.per_conversation, theirs.heldout.per_conversation, unit="perplexity")
        comparisons |= {} if perplexities is None else {PERPLEXITY: perplexities}
    return comparisons


def _set_differences(
    tasks: Sequence[Task], ours: ModelResult, theirs: ModelResult, *, without: Collection[str]
) -> dict[str, SetDifference]:
    """Compare the figures of all answers together, such as BLEU, as ``task.figure``."""
    differences: dict[str, SetDifference] = {}
    for task in tasks:
        both = [
            (mine, other)
            for mine, other, a, b in zip(
                ours.answers, theirs.answers, ours.scores[task.name], theirs.scores[task.name], strict=True
            )
            if a is not None and b is not None
        ]
        if task.corpus_differences and both:
            found = task.corpus_differences([mine for mine, _ in both], [other for _, other in both])
            differences |= {f"{task.name}.{name}": difference for name, difference in found.items()}
    return {figure: difference for figure, difference in differences.items() if figure not in without}


def _compared(task: str, name: str, ours: ModelResult, theirs: ModelResult) -> Comparison | None:
    """Compare a figure on the cases that both models have it for; None without such a case."""
    pairs = [
        (a[name], b[name])
        for a, b in zip(ours.scores[task], theirs.scores[task], strict=True)
        if a is not None and b is not None and name in a and name in b
    ]
    return compare([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None


def _referenced(prompts: Sequence[Prompt]) -> list[Conversation]:
    """Return the conversations with a reference answer, every row once.

    The prompts of a row stand together, one per turn. The last one contains the others and replaces them.
    """
    conversations: list[Conversation] = []
    before: Prompt | None = None
    for prompt in prompts:
        same_row = before is not None and prompt.place == before.place and prompt.turn > before.turn
        if prompt.reference is not None:
            whole = replace(prompt.conversation, messages=(*prompt.conversation.messages, prompt.reference))
            if same_row:
                conversations[-1] = whole
            else:
                conversations.append(whole)
            before = prompt
    return conversations


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
