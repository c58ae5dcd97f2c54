"""`instil demo`: train a base model to answer, and score it before and after.

The parts follow the headings that it prints. They call the same functions as any other run: `read`, `prepare`, `prove`,
`train`, `Engine`. With preferences a second act follows (`preference`), and starts from the model of the first.

Why: a second demo replaces the folder of the first, so that it can be repeated. No other run replaces a folder.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from instil.conversation import Conversation
from instil.data import read
from instil.demo.examples import print_examples
from instil.demo.instructions import write_instructions
from instil.demo.preference import preference_folder, run_second_act
from instil.demo.questions import held_out_questions
from instil.demo.scoring import Scores, ask, scores_of
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
from instil.screen import Cell, Column, Screen
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


def run_demo(output: Path, *, preference: bool = False) -> dict[str, Any]:
    """Run the demo.

    Args:
        output: Run folder. The demo writes its data beside it, into ``<output>-data``.
        preference: Also run the second act, into ``<output>-preference``: prefer one of two right answers.

    Returns:
        The contents of `results.json`: the run's own figures, `seconds`, `peak_rss_mb`, and `base` and `tuned`. These
        two hold `exact_match`, `second_turn`, `system_prompt` and `stops` as {value, low, high, n}. With `preference`
        also `preference`: the contents of the second run's `results.json` (see `preference.run_second_act`).

    Raises:
        RunError: If the folder exists and is not an earlier demo.
        TemplateError: If the proof of the template fails.
    """
    started = time.perf_counter()
    screen = Screen()
    output = home_path(output)
    data = output.with_name(f"{output.name}-data")
    outputs = {output: ("base", data / "alpaca.json")}
    if preference:
        outputs[preference_folder(output)] = ("before", data / "pairs.jsonl")
    for folder, (mark, made_from) in outputs.items():
        _check_room(folder, mark=mark, made_from=made_from)
    for folder in outputs:
        _make_room(folder, screen)
    questions = held_out_questions()

    screen.heading("1 · the base model continues text; it does not answer")
    base = Engine.load("demo")
    _print_continuations(base, screen)
    with screen.bar("asking the base model", total=len(questions), unit="questions") as bar:
        before = ask(base, questions, is_base=True, on_answer=bar.advance)
    del base

    screen.heading("2 · the data: three files, and which of their tokens are trained")
    recipe = demo_recipe(output, write_instructions(data))
    chat = set_up_chat(recipe, locate("demo")).chat
    _print_data(recipe, chat, screen)

    screen.heading("3 · the proof: what is trained is what is served")
    _prove(chat, screen)

    screen.heading("4 · training")
    screen.line("as instil train does it; this takes most of the time")
    run = train(recipe)

    screen.heading("5 · before and after, on entities that the instruction data never names")
    tuned = Engine.load(str(output))
    with screen.bar("asking the tuned model", total=len(questions), unit="questions") as bar:
        after = ask(tuned, questions, is_base=False, on_answer=bar.advance)
    scores = {"base": scores_of(before), "tuned": scores_of(after)}
    screen.note("exact match, with 95% intervals; greedy decoding")
    _print_table(scores["base"], scores["tuned"], screen)
    print_examples(before, after, names=("base", "tuned"), screen=screen)

    results = {
        **run.results,
        **{model: figures.to_json() for model, figures in scores.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    with refused_writes(output, raises=RunError, otherwise="choose another --output"):
        write_json_atomic(output / "results.json", results)
    second = run_second_act(output, tuned, after, screen=screen) if preference else None
    screen.heading(f"{6 if second is None else 9} · what to do next")
    _print_next_steps(output, results, screen, second=second)
    return results if second is None else {**results, "preference": second}


def demo_recipe(output: Path, sources: Sequence[Path]) -> Recipe:
    """Return the demo's recipe, with its data files and run folder."""
    path = Path(str(files("instil.demo") / "recipe.yaml"))
    return Recipe.load(path, {"output": str(output), "data": {"sources": [str(source) for source in sources]}})


def _check_room(output: Path, *, mark: str, made_from: Path) -> None:
    """Raise if a run folder exists and is not an earlier demo.

    Args:
        output: The run folder.
        mark: A key that only the demo's `results.json` has.
        made_from: A data file that the demo writes before such a run.
    """
    if not output.exists():
        return
    try:
        is_demo = mark in json.loads((output / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # A demo that was interrupted has no results yet.
        is_demo = made_from.exists() and (output / "checkpoints").is_dir()
    if not is_demo:
        raise RunError(
            f"{output}: exists and is not an earlier demo. Expected a new folder, or one of an earlier demo. "
            "Name another folder with --output."
        )


def _make_room(output: Path, screen: Screen) -> None:
    if output.exists():
        screen.note(f"replacing the earlier demo in {output}")
        shutil.rmtree(output)
    check_output(output, resume=False)


def _print_continuations(base: Engine, screen: Screen) -> None:
    answers = base.continue_text(BASE_PROMPTS, SamplingSettings(max_new_tokens=40))
    for answer, prompt in zip(answers, BASE_PROMPTS, strict=True):
        screen.line(prompt, style="bold")
        screen.line("\n".join(f"  {line}" for line in f"…{answer.text.strip()}".splitlines()))


def _print_data(recipe: Recipe, chat: ChatTokenizer, screen: Screen) -> None:
    """Prepare the data; print its ledger and the tokens of one conversation."""
    for line in prepare(recipe, chat).lines():
        screen.line(line)
    screen.line("\none conversation, as the model sees it:")
    screen.note(LEGEND)
    for explained in chat.explain(_two_answers(recipe)):
        screen.text(coloured_tokens(explained.tokens, white_space=False))


def _print_next_steps(output: Path, results: dict[str, Any], screen: Screen, *, second: dict[str, Any] | None) -> None:
    seconds, peak = results["seconds"], results["peak_rss_mb"]
    folders, latest = f"all files are in {output}", output
    if second is not None:
        seconds, peak = seconds + second["seconds"], max(peak, second["peak_rss_mb"])
        latest = preference_folder(output)
        folders += f" and {latest}"
    screen.line(f"{duration(seconds)} in total, peak memory {byte_size(peak * 2**20)}; {folders}")
    pairs = (
        [("the pairs", f"instil inspect {output}-data/pairs.jsonl --objective dpo --model {output}")] if second else []
    )
    screen.facts(
        [
            ("talk", f"instil chat {latest}"),
            ("look", f"instil inspect {output}-data/messages.jsonl --model demo"),
            *pairs,
            ("report", f"instil report {latest}"),
            ("your data", "instil train YOUR.jsonl"),
        ]
    )


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


def _prove(chat: ChatTokenizer, screen: Screen) -> None:
    proof = chat.prove()
    if not proof.passed:
        raise TemplateError(f"demo: the proof of the template failed: {proof.findings[0]}")
    screen.done(
        f"passed: training and serving use equal prompts, headers are not trained, "
        f"the stop token {chat.stop_tokens[0]} is trained"
    )


def _print_table(base: Scores, tuned: Scores, screen: Screen) -> None:
    rows = (
        *((task, base.tasks[task], tuned.tasks[task]) for task in tuned.tasks),
        ("second turns", base.second_turn, tuned.second_turn),
        ("system prompts", base.system_prompt, tuned.system_prompt),
        ("all", base.exact_match, tuned.exact_match),
        ("answers that stop", base.stops, tuned.stops),
    )
    columns = [Column("questions"), *(Column(name, number=True) for name in ("n", "base", "tuned"))]
    screen.table(
        columns, [[name, str(after.n), Cell(str(before)), Cell(str(after), "figure")] for name, before, after in rows]
    )
