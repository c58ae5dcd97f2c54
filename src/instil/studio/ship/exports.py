"""Exports of a workspace: their form, the check of parity, the card, and the commands that load them."""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from instil.exporting.gguf_types import PLAIN_TYPES, QUANTISED_TYPES
from instil.exporting.next_steps import serving_commands
from instil.studio.jobs.records import Job
from instil.training.model_card.subject import Form

FORMS: tuple[Form, ...] = get_args(Form)
VLLM_RANK = 16
"""Largest rank of an adapter that vLLM loads unless it is told of a larger one."""
PARITY, CARD = "parity.json", "README.md"
LONGEST_CARD = 64 * 1024
"""Characters of a model card that are shown."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A file of an export.

    Attributes:
        name: Its path in the export.
        size: Bytes.
    """

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class ExportEntry:
    """An export.

    Attributes:
        folder: Its folder below the workspace.
        form: What it is.
        changed: When it was written.
        files: Its files.
        prompts: Prompts whose ids were compared and are equal.
        stop_tokens: The stop tokens, equal everywhere.
        answers: Greedy answers compared.
        equal: How many of them are equal.
        logit_change: Largest change of a logit as a share of the largest one; None if weights were copied.
        notes: Further results of the check, in its own words.
        card: The model card; empty if there is none.
        commands: Name and command of what loads it.
    """

    folder: str
    form: Form
    changed: datetime
    files: tuple[ExportFile, ...]
    prompts: int
    stop_tokens: tuple[str, ...]
    answers: int
    equal: int
    logit_change: float | None
    notes: tuple[str, ...]
    card: str
    commands: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def available_types() -> dict[str, bool]:
    """Return the types of weights, each with whether it can be written here; the quantised ones need llama.cpp."""
    can_quantise = importlib.util.find_spec("llama_cpp") is not None
    return dict.fromkeys(PLAIN_TYPES, True) | dict.fromkeys(QUANTISED_TYPES, can_quantise)


def available_forms() -> dict[Form, bool]:
    """Return the forms, each with whether its packages are installed."""
    needs = {"4bit": "bitsandbytes", "gguf": "gguf", "ollama": "gguf"}
    return {form: form not in needs or importlib.util.find_spec(needs[form]) is not None for form in FORMS}


def is_export(folder: Path) -> bool:
    """Return whether a folder was written by `instil export`."""
    return (folder / PARITY).is_file()


def export_folders(root: Path, jobs: Sequence[Job]) -> list[Path]:
    """Return the exports that are looked at: those below ``exports/``, and those that a job wrote.

    A folder of an export of every checkpoint holds one for each, and ``final``.
    """
    places = set(root.glob("exports/*"))
    for job in jobs:
        if job.argv[0] == "export" and job.state != "queued":
            out = next((word.removeprefix("--out=./") for word in job.argv if word.startswith("--out=./")), None)
            places |= {root / out} if out is not None else set()
    found = {folder for place in places for folder in (place, *place.glob("*")) if is_export(folder)}
    return sorted(found, key=lambda path: -path.stat().st_mtime)


def read_export(root: Path, folder: Path) -> ExportEntry | None:
    """Return the export in a folder, or None if it cannot be read."""
    try:
        parity: dict[str, Any] = json.loads((folder / PARITY).read_text(encoding="utf-8"))
        form = form_of(folder)
        files = tuple(ExportFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files_of(folder))
        card = folder / CARD
        return ExportEntry(
            folder=folder.relative_to(root).as_posix(),
            form=form,
            changed=datetime.fromtimestamp(folder.stat().st_mtime).astimezone(),
            files=files,
            prompts=int(parity["prompts"]),
            stop_tokens=tuple(map(str, parity["stop_tokens"])),
            answers=int(parity["answers"]),
            equal=int(parity["answers"]) - int(parity["answers_differ"]),
            logit_change=parity.get("logit_change"),
            notes=tuple(map(str, parity.get("notes", ()))),
            card=card.read_text(encoding="utf-8", errors="replace")[:LONGEST_CARD] if card.is_file() else "",
            commands=tuple(commands_of(folder, form)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def files_of(folder: Path) -> list[Path]:
    """Return the files of an export, sorted; a link is not followed."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def form_of(folder: Path) -> Form:
    """Return what an export is, by its files."""
    if (folder / "Modelfile").exists():
        return "ollama"
    if (folder / "model.gguf").exists():
        return "gguf"
    if (folder / "adapter_config.json").exists():
        return "adapter"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return "4bit" if "quantization_config" in config else "merged"


def commands_of(folder: Path, form: Form) -> list[tuple[str, str]]:
    """Return what loads an export, each a name and a command for a terminal.

    Example:
        >>> commands_of(Path("/w/out"), "ollama")[0]
        ('Ollama', 'ollama create out -f /w/out/Modelfile && ollama run out')
    """
    name, path = shlex.quote(folder.name), shlex.quote(str(folder))
    commands = serving_commands(folder, form)
    if form == "adapter":
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = shlex.quote(str(config.get("base_model_name_or_path", "BASE")))
        rank = config.get("r", VLLM_RANK)
        words = f"vllm serve {base} --enable-lora --lora-modules {name}={path}"
        commands.append(("vLLM", words + (f" --max-lora-rank {rank}" if rank > VLLM_RANK else "")))
    return commands if form in ("gguf", "ollama") else [*commands, ("instil", f"instil serve {path}")]
