"""`instil demo`: train a base model to answer, and score it before and after.

The six parts follow the six headings that it prints. They call the same functions as any other run: `read`, `prepare`,
`prove`, `train`, `Engine`.

Why: a second demo replaces the folder of the first, so that it can be repeated. No other run replaces a folder.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from instil.conversation import Conversation
from instil.data import read
from instil.demo.instructions import write_instructions
from instil.demo.questions import Question, held_out_questions
from instil.demo.scoring import Judged, Scores, ask, conversation_of, scores_of
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import RunError, TemplateError
from instil.files import home_path, write_json_atomic
from instil.generation.engine import Engine
from instil.generation.sampling import SamplingSettings
from instil.model.folder.location import locate
from instil.preparation.chat_setup import set_up_chat
from instil.preparation.prepare import prepare
from instil.recipe import Recipe
from instil.refused_writes import refused_writes
from instil.training.memory.usage import peak_rss_mb
from instil.training.records.run_folder import check_output
from instil.training.run import train
from instil.units import byte_size, duration
from instil.views.colours import LEGEND, coloured_tokens

BASE_PROMPTS = (
    "What is the capital of Norway?",
    "Name the chemical symbol of iron.",
    "Translate into French: water",
)


def run_demo(output: Path, *, console: Console | None = None) -> dict[str, Any]:
    """Run the demo.

    Args:
        output: Run folder. The demo writes its data beside it, into ``<output>-data``.
        console: Console to print to; standard output by default.

    Returns:
        The contents of `results.json`: the run's own figures, `seconds`, `peak_rss_mb`, and `base` and `tuned`. These
        two hold `exact_match`, `second_turn`, `system_prompt` and `stops` as {value, low, high, n}.

    Raises:
        RunError: If the folder exists and is not an earlier demo.
        TemplateError: If the proof of the template fails.
    """
    started = time.perf_counter()
    console = console or Console()
    output = home_path(output)
    _make_room(output, console)
    check_output(output, resume=False)
    questions = held_out_questions()

    console.rule("1 · the base model continues text; it does not answer", align="left")
    base = Engine.load("demo")
    _print_continuations(base, console)
    with _bar(console, "asking the base model", len(questions)) as advance:
        before = ask(base, questions, is_base=True, on_answer=advance)
    del base

    console.rule("2 · the data: three files, and which of their tokens are trained", align="left")
    recipe = demo_recipe(output, write_instructions(output.with_name(f"{output.name}-data")))
    chat = set_up_chat(recipe, locate("demo")).chat
    _print_data(recipe, chat, console)

    console.rule("3 · the proof: what is trained is what is served", align="left")
    _prove(chat, console)

    console.rule("4 · training", align="left")
    run = train(recipe)

    console.rule("5 · before and after, on entities that the instruction data never names", align="left")
    tuned = Engine.load(str(output))
    with _bar(console, "asking the tuned model", len(questions)) as advance:
        after = ask(tuned, questions, is_base=False, on_answer=advance)
    scores = {"base": scores_of(before), "tuned": scores_of(after)}
    console.print(_table(scores["base"], scores["tuned"]))
    for line in _examples(before, after):
        console.print(line, highlight=False, markup=False)

    results = {
        **run.results,
        **{model: figures.to_json() for model, figures in scores.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    with refused_writes(output, raises=RunError, otherwise="choose another --output"):
        write_json_atomic(output / "results.json", results)
    console.rule("6 · what to do next", align="left")
    _print_next_steps(output, results, console)
    return results


def demo_recipe(output: Path, sources: Sequence[Path]) -> Recipe:
    """Return the demo's recipe, with its data files and run folder."""
    path = Path(str(files("instil.demo") / "recipe.yaml"))
    return Recipe.load(path, {"output": str(output), "data": {"sources": [str(source) for source in sources]}})


def _make_room(output: Path, console: Console) -> None:
    """Remove an earlier demo; raise for any other folder."""
    if not output.exists():
        return
    try:
        is_demo = "base" in json.loads((output / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # A demo that was interrupted has no results yet.
        is_demo = (output.with_name(f"{output.name}-data") / "alpaca.json").exists() and (
            output / "checkpoints"
        ).is_dir()
    if not is_demo:
        raise RunError(
            f"{output}: exists and is not an earlier demo. Expected a new folder, or one of an earlier demo. "
            "Name another folder with --output."
        )
    console.print(f"replacing the earlier demo in {output}")
    shutil.rmtree(output)


def _print_continuations(base: Engine, console: Console) -> None:
    answers = base.continue_text(BASE_PROMPTS, SamplingSettings(max_new_tokens=40))
    for answer, prompt in zip(answers, BASE_PROMPTS, strict=True):
        console.print(f"[bold]{prompt}[/]", end="")
        console.print(f"[dim]{answer.text.rstrip()}[/]", markup=True, highlight=False)


def _print_data(recipe: Recipe, chat: ChatTokenizer, console: Console) -> None:
    """Prepare the data; print its ledger and the tokens of one conversation."""
    for line in prepare(recipe, chat).lines():
        console.print(line, highlight=False, markup=False)
    console.print(f"\none conversation, as the model sees it ({LEGEND}):")
    for explained in chat.explain(_two_answers(recipe)):
        console.print(coloured_tokens(explained.tokens, white_space=False), soft_wrap=True)


def _print_next_steps(output: Path, results: dict[str, Any], console: Console) -> None:
    console.print(
        f"{duration(results['seconds'])} in total, peak memory {byte_size(results['peak_rss_mb'] * 2**20)}; "
        f"all files are in {output}"
    )
    for command in (
        f"instil chat {output}",
        f"instil inspect {output}-data/messages.jsonl --model demo",
        "instil train YOUR.jsonl",
    ):
        console.print(f"  {command}", style="bold", highlight=False)


def _two_answers(recipe: Recipe) -> Conversation:
    """Return the shortest conversation of the data with two answers."""
    answering_twice = (
        conversation
        for source in recipe.data.sources
        for conversation in read(source.path)
        if sum(message.role == "assistant" for message in conversation.messages) == 2
    )
    return min(answering_twice, key=_num_characters)


def _num_characters(conversation: Conversation) -> int:
    return sum(len(str(message.content)) for message in conversation.messages)


def _prove(chat: ChatTokenizer, console: Console) -> None:
    proof = chat.prove()
    if not proof.passed:
        raise TemplateError(f"demo: the proof of the template failed: {proof.findings[0]}")
    console.print(
        f"passed: training and serving use equal prompts, headers are not trained, "
        f"the stop token {' '.join(chat.stop_tokens)} is trained",
        highlight=False,
        markup=False,
    )


@contextmanager
def _bar(console: Console, label: str, total: int) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)


def _table(base: Scores, tuned: Scores) -> Table:
    table = Table(title="exact match on held-out entities, 95% intervals, greedy decoding", title_justify="left")
    for name, side in (("", "left"), ("n", "right"), ("base", "right"), ("tuned", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for name, before, after in (
        *((task, base.tasks[task], tuned.tasks[task]) for task in tuned.tasks),
        ("second turns", base.second_turn, tuned.second_turn),
        ("system prompts", base.system_prompt, tuned.system_prompt),
        ("all", base.exact_match, tuned.exact_match),
        ("answers that stop", base.stops, tuned.stops),
    ):
        if name in ("second turns", "all"):
            table.add_section()
        table.add_row(name, str(after.n), str(before), f"[bold]{after}[/]")
    return table


def _examples(before: Sequence[Judged], after: Sequence[Judged]) -> Iterator[str]:
    """Yield one question of each slice with both answers."""
    seen: set[str] = set()
    for base, tuned in zip(before, after, strict=True):
        if base.question.slice in seen:
            continue
        seen.add(base.question.slice)
        yield _one_line(base.question)
        yield f"   base:  {' '.join(base.answer.split())[:90]}"
        yield f"   tuned: {' '.join(tuned.answer.split())[:90]}"


def _one_line(question: Question) -> str:
    return " / ".join(f"{message.role}: {message.content}" for message in conversation_of(question).messages)
