"""``instil generate``: answer a file of prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from instil.errors import GenerationError
from instil.generation.settings import GREEDY, LOADING, LoadSettings, SamplingSettings


def generate(
    model: str,
    *,
    prompts: Annotated[str, Parameter(name=["--prompts", "--data"])],
    out: Path,
    turns: Literal["last", "every"] = "last",
    limit: int | None = None,
    too_long: Literal["drop", "keep_last_turns", "refuse"] = "drop",
    rendered_rows: Literal["read", "keep", "refuse"] = "read",
    quiet: bool = False,
    schema: Path | None = None,
    json_object: Annotated[bool, Parameter(negative="")] = False,
    sampling: Annotated[SamplingSettings, Parameter(name="*")] = GREEDY,
    loading: Annotated[LoadSettings, Parameter(name="*")] = LOADING,
) -> None:
    """Answer a file of prompts, by greedy decoding unless options change it.

    Each answer is one JSON line: prompt, prediction, reference, finish_reason, tokens, seed. The same command
    continues where it stopped; answers in the file are kept.

    Args:
        model: Run folder, model folder, adapter folder, Hub id or `demo`.
        prompts: File, folder, glob, `-` or Hub id, in any format that training reads. Rows without an answer are
            allowed.
        out: JSONL file for the answers.
        turns: Answer at the last assistant turn of a conversation, or at every one.
        limit: Largest number of prompts.
        too_long: What to do with a prompt that leaves no room for an answer in the model's context. drop: leave it out;
            its line in --out has no prediction. keep_last_turns: drop its oldest exchanges. refuse: stop.
        rendered_rows: What to do with a prompt that a chat template has rendered already. read: read it back into
            messages, and stop where that is not exact. keep: give it to the model as text. refuse: stop.
        quiet: Print warnings only, and no bar.
        schema: JSON file with a JSON schema: every answer's content is JSON of this schema.
        json_object: Every answer's content is a JSON object.
        sampling: How the next token is chosen.
        loading: How the model is loaded.
    """
    from instil.generation.constraints.schema_file import read_form
    from instil.generation.prompts import as_messages, read_prompts
    from instil.screen import Screen
    from instil.units import counted

    if sampling.seed is None:
        sampling = replace(sampling, seed=0)
    form = read_form(schema, any_object=json_object)
    rows = read_prompts(prompts, turns=turns, limit=limit)

    from instil.generation.answers_file import answer_file
    from instil.generation.decoding import context_limit
    from instil.generation.engine import Engine
    from instil.generation.prompt_length import fit_prompts

    screen = Screen(stderr=True, quiet=quiet)
    engine = Engine.load(model, loading)
    if engine.chat is None:
        screen.note(f"{model} has no chat template: it continues plain text up to the first line break")
    rows = as_messages(rows, engine.chat, policy=rendered_rows, turns=turns)
    fitted = fit_prompts(rows, engine.prompt, limit=context_limit(engine.model), too_long=too_long)
    if not fitted.prompts:
        raise GenerationError(
            f"{prompts}: every prompt is too long ({fitted.summary()[0]}). Expected prompts that leave room for an "
            "answer. Use --too-long keep_last_turns, or shorter prompts."
        )
    total = len(fitted.prompts) * sampling.num_answers
    kept = answer_file(engine, rows, out=out, settings=sampling, fitted=fitted, form=form)
    already = f" ({kept} were there already)" if kept else ""
    answered = counted(len(fitted.prompts), "prompt")
    screen.done(f"{counted(total, 'answer')} to {answered} in {out}{already}")
    for line in fitted.summary():
        screen.warn(line)
    screen.hint(f"next: instil evaluate {model} --data {prompts} measures answers against references")
