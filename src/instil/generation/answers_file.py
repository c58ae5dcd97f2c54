"""Answers a file of prompts into a file of answers, and continues after a kill.

Each answer is one line, written when it is ready, so a kill costs only the batch in progress. At the end, the lines
are put into the order of the prompts. Every line has a key made of prompt, model and settings, so other answers are
never mixed in.

Why: the file is complete JSONL after every answer, not only at the end, so it can be read while it grows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from instil.data.messages import conversation_to_dict, message_to_dict
from instil.errors import GenerationError
from instil.files import atomic_file, new_folders
from instil.generation.constraints.forms import JsonForm
from instil.generation.engine import Answer, Engine
from instil.generation.prompt_length import FittedPrompts, LongPrompt
from instil.generation.prompts import Prompt
from instil.generation.settings import SamplingSettings
from instil.refused_writes import REFUSED, refused_writes
from instil.screen import work
from instil.units import counted

CHUNK = 512
"""Prompts encoded and sorted by length at a time."""
BEGINS = b'{"row": '
"""How each row of this command begins. A cut last line that begins in another way is not one of them."""


def answer_file(
    engine: Engine,
    prompts: Sequence[Prompt],
    *,
    out: Path,
    settings: SamplingSettings,
    fitted: FittedPrompts | None = None,
    on_answer: Callable[[int], None] | None = None,
    form: JsonForm | None = None,
) -> int:
    """Answer prompts into a JSONL file.

    A row has ``row`` (place), ``answer`` (number among the prompt's answers), ``prompt`` (messages), ``prediction``,
    ``reasoning`` and ``tool_calls`` where there are any, ``reference``, ``finish_reason``, ``tokens``, ``seed``,
    ``key``.

    Args:
        engine: The model.
        prompts: The prompts.
        out: The file. Rows that it already contains are kept, and their prompts are not answered again.
        settings: Sampling settings. The seed must be set, so that a second call finds its rows.
        fitted: The prompts after the length policy. One that was left out gets a row without a prediction, with the
            finish_reason `prompt_too_long` and its own number of tokens as `prompt_tokens`.
        on_answer: Called with the number of answers done after each one.
        form: The form that every answer has to have; it is part of the answers' keys.

    Returns:
        Number of answers that were already in the file.

    Raises:
        GenerationError: If the file contains answers of another model, other prompts or other settings.
    """
    prompts, left_out = list(prompts), {}
    if fitted is not None:
        for index, prompt in zip(fitted.indices, fitted.prompts, strict=True):
            prompts[index] = prompt
        left_out = {long.index: long for long in fitted.left_out}
    model = _model_key(engine) if form is None else f"{_model_key(engine)} {json.dumps(form.schema, sort_keys=True)}"
    keys = [key for prompt in prompts for key in answer_keys(prompt, model=model, settings=settings)]
    done = read_answers(out, set(keys))
    per = settings.num_answers
    open_prompts = [
        at
        for at in range(len(prompts))
        if at not in left_out and any(key not in done for key in keys[at * per : (at + 1) * per])
    ]
    rows_left_out = {
        keys[at * per + which]: _row_without_answer(prompts[at], long, which=which, key=keys[at * per + which])
        for at, long in left_out.items()
        for which in range(per)
    }
    done = {key: row for key, row in done.items() if key not in rows_left_out}
    num_kept = len(done)
    file = open_for_answers(out)
    try:
        with (
            _kept_whole(out, done),
            file,
            work("answering", total=len(keys) - len(rows_left_out), unit="answers") as bar,
        ):
            bar.start_at(num_kept)
            for start in range(0, len(open_prompts), CHUNK):
                chunk = open_prompts[start : start + CHUNK]

                def write(number: int, answer: Answer, chunk: list[int] = chunk) -> None:
                    at, which = chunk[number // per], number % per
                    key = keys[at * per + which]
                    if key in done:
                        return
                    row = row_of(prompts[at], answer, which=which, key=key)
                    _write_row(file, row)
                    done[key] = row
                    bar.advance()
                    if on_answer is not None:
                        on_answer(len(done))

                engine.answer([prompts[at].conversation for at in chunk], settings, on_answer=write, form=form)
    finally:
        if not done and not rows_left_out:  # a call without answers leaves no file
            out.unlink(missing_ok=True)
    done |= rows_left_out
    with _kept_whole(out, done):
        _rewrite(out, [done[key] for key in keys])
    return num_kept


def open_for_answers(out: Path) -> IO[str]:
    """Open the file for appending; its folder is made if necessary.

    Raises:
        GenerationError: If it cannot be written.
    """
    with refused_writes(out, raises=GenerationError, otherwise="choose another --out"), new_folders(out.parent):
        return out.open("a", encoding="utf-8")


_LATER_SETTINGS = ("presence_penalty", "frequency_penalty")
"""Settings that came later: at 0 they stay out of the keys, so that files from before are continued."""


def answer_keys(prompt: Prompt, *, model: str, settings: SamplingSettings) -> list[str]:
    """Return the keys of a prompt's answers: equal keys mean equal prompt, place, model, settings and number."""
    values = asdict(settings)
    for name in _LATER_SETTINGS:
        if not values[name]:
            del values[name]
    text = json.dumps([prompt.fingerprint(), str(prompt.place), model, values], sort_keys=True)
    stem = sha256(text.encode()).hexdigest()[:16]
    return [f"{stem}-{which}" for which in range(settings.num_answers)]


def row_of(prompt: Prompt, answer: Answer, *, which: int, key: str) -> dict[str, Any]:
    """Return the row of one answer."""
    message = answer.message
    row: dict[str, Any] = {
        "row": None if prompt.place is None else str(prompt.place),
        "answer": which,
        "prompt": conversation_to_dict(prompt.conversation)["messages"],
        "prediction": answer.content,
        "reference": prompt.reference_text,
        "finish_reason": answer.generated.finish_reason,
        "tokens": answer.generated.num_tokens,
        "seed": answer.generated.seed,
    }
    if message.reasoning is not None:
        row["reasoning"] = message.reasoning
    if message.tool_calls:
        row["tool_calls"] = message_to_dict(message)["tool_calls"]
    row["key"] = key
    return row


def _row_without_answer(prompt: Prompt, long: LongPrompt, *, which: int, key: str) -> dict[str, Any]:
    """Return the row of a prompt that was left out."""
    return {
        "row": None if prompt.place is None else str(prompt.place),
        "answer": which,
        "prompt": conversation_to_dict(prompt.conversation)["messages"],
        "prediction": None,
        "reference": prompt.reference_text,
        "finish_reason": "prompt_too_long",
        "prompt_tokens": long.num_tokens,
        "tokens": 0,
        "key": key,
    }


def read_answers(out: Path, keys: Set[str]) -> dict[str, dict[str, Any]]:
    """Read the answers that a file already contains; a last line that a kill cut short is removed.

    Args:
        out: The file; it need not exist.
        keys: Keys of the answers of this call.

    Raises:
        GenerationError: If it contains anything else.
    """
    if not out.exists():
        return {}
    if out.is_dir():
        raise GenerationError(f"{out}: is a folder. Expected a file for the answers. Choose another --out.")
    done: dict[str, dict[str, Any]] = {}
    lines = out.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            key = row["key"]
        except (ValueError, KeyError, TypeError):
            # Only the last line can lack its line break: a kill cut it short.
            if number == len(lines) and line[: len(BEGINS)] == BEGINS[: len(line)]:
                _cut(out, len(line))
                break
            raise GenerationError(
                f"{out}:{number}: not an answer of this command. It would be overwritten. Choose another --out."
            ) from None
        if key not in keys:
            raise GenerationError(
                f"{out}:{number}: an answer to another prompt, model or setting. Only the same call can continue it. "
                "Remove the file or choose another --out."
            )
        done[key] = row
    return done


def _cut(path: Path, length: int) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - length)


@contextlib.contextmanager
def _kept_whole(out: Path, done: Mapping[str, Any]) -> Iterator[None]:
    """Keep only whole answers in the file if the disk refuses one.

    Raises:
        GenerationError: In place of an OSError from the disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        with contextlib.suppress(OSError):
            _cut(out, len(out.read_bytes().rpartition(b"\n")[2]))
        # The number is known only now: answers were added since the context began.
        kept = f"It holds {counted(len(done), 'answer')}, and the same command continues it."
        with refused_writes(out, raises=GenerationError, kept=kept, otherwise="choose another --out"):
            raise


def _write_row(file: IO[str], row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    file.flush()


def _rewrite(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    with atomic_file(out) as file:
        for row in rows:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def _model_key(engine: Engine) -> str:
    """Return what identifies the model: its name, its template, and size and time of its weight files."""
    parts = [engine.name, "" if engine.chat is None else engine.chat.template.fingerprint]
    if engine.location is not None:
        folders = (engine.location.folder, engine.location.adapter_folder)
        for path in sorted(path for folder in folders if folder for path in folder.glob("*.safetensors")):
            parts += [path.name, str(path.stat().st_size), str(path.stat().st_mtime_ns)]
    return " ".join(parts)
