"""The second act of `instil demo`: prefer one of two right answers, and score the model before and after.

It starts from the run of the first act, which is the reference. It calls the same functions as any other run of
preferences: `train` with a recipe, and the comparison of `instil evaluate --task preference`.

Why: what pairs teach must cost nothing else. So facts are counted in either form, and all other questions of the first
act are asked again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from instil.data import read
from instil.demo.examples import one_line, print_examples
from instil.demo.pairs import HELPFUL, Preference, held_out_pairs, sentence_for, training_pairs, write_pairs
from instil.demo.questions import Question, held_out_questions, score
from instil.demo.scoring import Judged, ask
from instil.errors import RunError
from instil.evaluation.intervals import Interval, mean_interval, share_interval
from instil.evaluation.preference import compare_answers
from instil.files import write_json_atomic
from instil.generation.engine import Engine
from instil.recipe import Recipe
from instil.refused_writes import refused_writes
from instil.screen import Cell, Column, Screen
from instil.training.memory.usage import peak_rss_mb
from instil.training.records.run_folder import Run
from instil.training.run import train


@dataclass(frozen=True, slots=True)
class PreferenceScores:
    """What a model prefers, and what it knows.

    Attributes:
        pairs_won: Share of held-out pairs whose chosen answer it finds likelier.
        margin: By how much, in nats: log-probability of the chosen answer minus that of the rejected one.
        full_sentences: Share of its own answers that are the full sentence, to plain questions under `pairs.HELPFUL`.
        facts: Share of the same answers that are right in either form: full sentence or bare value.
        other_questions: Exact match of the first act's questions, without those under that system prompt.
        stops: Share of all these answers that it ended itself.
    """

    pairs_won: Interval
    margin: Interval
    full_sentences: Interval
    facts: Interval
    other_questions: Interval
    stops: Interval

    def to_json(self) -> dict[str, object]:
        """Return the scores as `results.json` holds them."""
        return asdict(self)


def run_second_act(first: Path, tuned: Engine, before: Sequence[Judged], *, screen: Screen) -> dict[str, Any]:
    """Run the second act.

    Args:
        first: Run folder of the first act. This run goes to ``<first>-preference``.
        tuned: The model of that run.
        before: Its answers to the first act's questions.
        screen: What to print on.

    Returns:
        The contents of its `results.json`: the run's own figures, `seconds`, `peak_rss_mb`, and `before` and `after`,
        which hold each figure of `PreferenceScores` as {value, low, high, n}.
    """
    started = time.perf_counter()
    output = preference_folder(first)
    screen.heading("6 · pairs: both answers are right, and one of them is preferred")
    pairs = training_pairs()
    sources = write_pairs(first.with_name(f"{first.name}-data"), pairs, held_out_pairs())
    _print_pairs(pairs, sources[0], screen)

    screen.heading("7 · preference tuning: the chosen answer becomes likelier, the rejected one less likely")
    screen.line(f"DPO, as instil train does it, with a new adapter on {first}, which is the reference")
    run = train(preference_recipe(output, model=first, sources=sources))
    _print_course(run, screen)

    screen.heading("8 · before and after, on entities that no pair names")
    questions = [*_helpful_questions(), *(judged.question for judged in before if not _is_helpful(judged.question))]
    kept = [judged for judged in before if not _is_helpful(judged.question)]
    answers = {"before": [*_ask(tuned, _helpful_questions(), screen), *kept]}
    preferring = Engine.load(str(output))
    answers["after"] = _ask(preferring, questions, screen)
    scores = {
        when: _scores(engine, answers[when], heldout=sources[1])
        for when, engine in (("before", tuned), ("after", preferring))
    }
    _print_table(scores["before"], scores["after"], screen)
    print_examples(answers["before"], answers["after"], names=("before", "after"), screen=screen)
    results = {
        **run.results,
        **{when: figures.to_json() for when, figures in scores.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    with refused_writes(output, raises=RunError, otherwise="choose another --output"):
        write_json_atomic(output / "results.json", results)
    return results


def preference_folder(first: Path) -> Path:
    """Return the run folder of the second act, by that of the first."""
    return first.with_name(f"{first.name}-preference")


def preference_recipe(output: Path, *, model: Path, sources: tuple[Path, Path]) -> Recipe:
    """Return the recipe of the second act.

    Args:
        output: Run folder.
        model: Run folder of the first act.
        sources: Files of the training pairs and of the held-out pairs.
    """
    path = Path(str(files("instil.demo") / "preference.yaml"))
    data = {"sources": [str(sources[0])], "heldout": [str(sources[1])]}
    return Recipe.load(path, {"output": str(output), "model": {"name": str(model)}, "data": data})


def _helpful_questions() -> list[Question]:
    """Return the plain questions of the test, under the system prompt of the preference."""
    return [
        replace(question, messages=(HELPFUL, *question.messages))
        for question in held_out_questions()
        if sentence_for(question) is not None
    ]


def _is_helpful(question: Question) -> bool:
    return question.messages[0] == HELPFUL


def _ask(engine: Engine, questions: Sequence[Question], screen: Screen) -> list[Judged]:
    with screen.bar("asking the model", total=len(questions), unit="questions") as bar:
        return ask(engine, questions, is_base=False, on_answer=lambda: bar.advance(1))


def _scores(engine: Engine, answers: Sequence[Judged], *, heldout: Path) -> PreferenceScores:
    sides = iter(read(heldout, objective="dpo"))
    compared = [pair for pair in compare_answers(engine, list(zip(sides, sides, strict=True))) if pair is not None]
    helpful = [judged for judged in answers if _is_helpful(judged.question)]
    sentences = [score(judged.answer, sentence_for(judged.question) or "") for judged in helpful]
    return PreferenceScores(
        pairs_won=_share([pair.chosen > pair.rejected for pair in compared]),
        margin=mean_interval([pair.chosen - pair.rejected for pair in compared]),
        full_sentences=_share(sentences),
        facts=_share([judged.right or is_sentence for judged, is_sentence in zip(helpful, sentences, strict=True)]),
        other_questions=_share([judged.right for judged in answers if not _is_helpful(judged.question)]),
        stops=_share([judged.stopped for judged in answers]),
    )


def _share(verdicts: Sequence[bool]) -> Interval:
    return share_interval(sum(verdicts), len(verdicts))


def _print_pairs(pairs: Sequence[Preference], path: Path, screen: Screen) -> None:
    """Print a pair of each kind, whose prompts are short."""
    screen.line(
        "Imitation says what to write. A pair says which of two answers is better. Half of these pairs prefer a full "
        f'sentence where the system prompt is "{HELPFUL[1]}" The other half prefers the usual answer to other prompts.'
    )
    for form in ("sentence", "usual"):
        pair = min((pair for pair in pairs if pair.wants == form), key=lambda pair: len(str(pair.messages)))
        screen.line()
        screen.line(one_line(pair.messages), style="bold")
        screen.facts([("  chosen", pair.chosen), ("  rejected", pair.rejected)])
    screen.line()
    screen.note(f"all {len(pairs):,} pairs: {path}")


def _print_course(run: Run, screen: Screen) -> None:
    """Print how held-out pairs are won while the model trains."""
    lines = [line for line in run.metrics() if "heldout_accuracy" in line]
    screen.line()
    screen.line(
        "Before the first step the model and its reference are equal: every margin is 0, no pair is won or lost, and the "
        "loss of the comparison is ln 2 = 0.693. The run proved it above (start). Then the held-out pairs are won:"
    )
    columns = [Column(name, number=True) for name in ("step", "pairs won", "margin, times beta")]
    rows = [[str(line["step"]), f"{line['heldout_accuracy']:.0%}", f"{line['heldout_margin']:.2f}"] for line in lines]
    screen.table(columns, rows)


def _print_table(before: PreferenceScores, after: PreferenceScores, screen: Screen) -> None:
    names = {
        "pairs_won": "held-out pairs won",
        "margin": "margin of these pairs, in nats",
        "full_sentences": "own answers that are the full sentence",
        "facts": "own answers that are right, in either form",
        "other_questions": "right answers to all other questions",
        "stops": "answers that stop",
    }
    rows: list[list[str | Cell]] = []
    for name, words in names.items():
        then, now = getattr(before, name), getattr(after, name)
        show = _nats if name == "margin" else str
        rows.append([words, str(now.n), show(then), Cell(show(now), "figure")])
    screen.note("with 95% intervals; answers by greedy decoding")
    screen.table([Column("measure"), *(Column(name, number=True) for name in ("n", "before", "after"))], rows)


def _nats(figure: Interval) -> str:
    return f"{figure.value:.1f} [{figure.low:.1f}, {figure.high:.1f}]"
