"""Exports a model: it is written aside, checked, and only then put in place.

A merged model and an adapter come from the 16- or 32-bit base, even if the run trained on a 4-bit base.

Why: there is no switch that skips the parity check. An export that differs from training would break the promise.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch

from instil.conversation import Conversation
from instil.errors import ExportError, InstilError, MissingPackageError
from instil.exporting.adapter_folder import adapter_of, check_run_merge, stored_type, write_adapter
from instil.exporting.check_with_4 import check_with_4
from instil.exporting.gguf_export import write_checked_gguf
from instil.exporting.gguf_file import check_gguf
from instil.exporting.gguf_types import PLAIN_TYPES, read_dtype
from instil.exporting.ollama import make_modelfile
from instil.exporting.parity import (
    Parity,
    as_mapping,
    check_answers,
    check_ids,
    check_merge,
    logits_on,
    probe_conversations,
)
from instil.exporting.quantised_base import with_ordinary_weights
from instil.files import atomic_folder, home_path, new_folders
from instil.generation.engine import Engine
from instil.generation.prompts import Prompt, prompts_of
from instil.generation.settings import LoadSettings
from instil.model.adapters.merge import merge_in_place
from instil.model.folder.config import load_config
from instil.model.folder.location import ModelLocation, locate
from instil.model.folder.saving import write_model_files
from instil.refused_writes import refused_writes
from instil.training.model_card.card import model_card
from instil.training.model_card.head import check_licence
from instil.training.model_card.papers import read_papers
from instil.training.model_card.subject import CardSubject
from instil.units import byte_size, counted
from instil.views.html import frame, table
from instil.views.turns import one_line

Target: TypeAlias = Literal["merged", "adapter", "4bit", "gguf", "ollama"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NUM_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Exported:
    """An export.

    Attributes:
        folder: Its folder.
        parity: The result of the comparison with training.
        files: Names of the files.
        licence: The licence in the model card, or None.
        weights: The type of the weights, and that of the model's own where it is another one; empty if it kept them.
        uploaded: What was put on the Hub, one line each.
        checkpoints: The exports of the run's checkpoints, if they were requested; this is that of its last model.
    """

    folder: Path
    parity: Parity
    files: tuple[str, ...]
    licence: str | None
    weights: str = ""
    uploaded: tuple[str, ...] = ()
    checkpoints: tuple[Exported, ...] = ()

    def __repr__(self) -> str:
        """Return folder, number of files and the first line of the check, on one line."""
        return one_line("Exported", [str(self.folder), counted(len(self.files), "file"), *self.parity.lines()[:1]])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what was checked, the files with their sizes, and what was uploaded."""
        facts = [self.weights, f"licence {self.licence}" if self.licence else "no licence"]
        sizes = [[name, _size_of(self.folder / name)] for name in self.files]
        others = [[str(one.folder), counted(len(one.files), "file")] for one in self.checkpoints]
        body = table(["checked"], [[line] for line in self.parity.lines()]) + table(["file", "size"], sizes)
        body += table(["checkpoint", ""], others) + table(["uploaded"], [[line] for line in self.uploaded])
        return frame(f"Export {self.folder}", facts=facts, body=body)


def _size_of(file: Path) -> str:
    """Return the size of a file, or that it is gone: an export may have been moved since."""
    return byte_size(file.stat().st_size) if file.is_file() else "not there any more"


def export(
    name: str | Path,
    out: str | Path,
    *,
    target: Target = "merged",
    dtype: str = "bf16",
    rows: Sequence[Conversation] = (),
    device: str = "auto",
    licence: str | None = None,
    check_with: Literal["4"] | None = None,
    repository: str | None = None,
    step: int | None = None,
) -> Exported:
    """Export a model.

    Args:
        name: Run, model folder or adapter folder.
        out: Folder to write; it must not exist.
        target: Form of the export.
        dtype: Type of the weights: fp32, bf16 or fp16; for GGUF files also those of `gguf_types`. An adapter keeps its
            own.
        rows: Conversations for the parity check; by default a few probes.
        device: Where to compute.
        licence: Licence identifier for the model card; by default the base's own.
        check_with: Another major version of transformers to load a merged model with; see `check_with_4`.
        repository: Name on the Hub under which the export will stand, for the model card.
        step: Step of the run that the model is from, for the model card; None for the model that it ended with.

    Raises:
        ExportError: If the target cannot hold the model or a parity check fails; nothing is left behind.
        ModelError: If the model is missing or incomplete.
    """
    out = home_path(out)
    if out.exists():
        raise ExportError(f"{out}: already exists. An export never overwrites. Choose another folder.")
    check_licence(licence)
    if check_with is not None and target != "merged":
        raise ExportError(
            f"--check-with: found {check_with} with --as {target}. Expected --as merged, which transformers loads. "
            "Leave one of them out."
        )
    dtype = read_dtype(dtype, target)
    precision = _precision(dtype)
    location = locate(name)
    adapter = adapter_of(name)
    _check_target(location, target, adapter=adapter or location.adapter_folder)
    papers = read_papers(location)
    if target == "adapter":
        engine = _load(adapter or name, "fp32", device)
    else:
        engine = with_ordinary_weights(_load(name, precision, device), _DTYPES[precision])
    with contextlib.ExitStack() as stack:
        stack.enter_context(refused_writes(out, raises=ExportError, otherwise="choose another folder"))
        stack.enter_context(new_folders(out.parent))
        aside = stack.enter_context(atomic_folder(out))
        conversations = list(rows)[:NUM_ROWS] or probe_conversations()
        if check_with is None:
            parity = _WRITERS[target](engine, aside, conversations, dtype, device, name=out.name)
        else:
            parity, compared = _merged_and_compared(engine, aside, conversations, precision, device)
            parity = _checked_with_4(aside, compared, parity, precision)
        (aside / "parity.json").write_text(json.dumps(as_mapping(parity), indent=2) + "\n", encoding="utf-8")
        assert engine.chat is not None
        subject = CardSubject(
            name=out.name,
            form=target,
            weights="" if target == "4bit" else dtype,
            stop_tokens=parity.stop_tokens,
            template=engine.chat.template.fingerprint,
            checks=parity.lines(),
            repository=repository,
            licence=licence,
            step=step,
            title="" if step is None else f"{out.parent.name}, step {step}",
        )
        (aside / "README.md").write_text(model_card(papers, subject), encoding="utf-8")
    files = tuple(sorted(path.name for path in out.iterdir()))
    return Exported(
        folder=out,
        parity=parity,
        files=files,
        licence=licence or papers.base_licence.get("license"),
        weights=_weights(location, target, dtype),
    )


def _weights(location: ModelLocation, target: Target, dtype: str) -> str:
    """Return the type of an export's weights in words, and that of the model's own where another one was chosen."""
    if target == "adapter":
        return ""
    own = next((name for name, kind in _DTYPES.items() if kind == stored_type(location.folder)), None)
    kept = f"; the model's own are {own}, which --dtype {own} keeps" if own not in (None, dtype) else ""
    return "nf4, 4 bits" if target == "4bit" else f"{dtype}{kept}"


def _check_target(location: ModelLocation, target: Target, *, adapter: Path | None) -> None:
    """Check that a model can be exported in a form, before a weight is read.

    Raises:
        ExportError: If it cannot.
        MissingPackageError: If a package for it is not installed.
    """
    if target == "adapter" and adapter is None:
        raise ExportError(
            f"{location.name}: was fully tuned and has no adapter. Expected an adapter. Export it as merged."
        )
    if target == "4bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackageError("bitsandbytes", needed_for="export --as 4bit", extra="qlora")
    if target in ("gguf", "ollama"):
        check_gguf(load_config(location))


def _precision(dtype: str) -> Precision:
    """Return the type in which a model is merged and computed. Quantised weights are rounded once, from fp32."""
    return cast("Precision", dtype) if dtype in PLAIN_TYPES else "fp32"


def _load(name: str | Path, precision: Precision, device: str) -> Engine:
    engine = Engine.load(name, LoadSettings(precision=precision, device=device))
    if engine.chat is None:
        raise ExportError(f"{name}: has no chat template, so it was not tuned for chat. Export a run or a tuned model.")
    return engine


def _merged(
    engine: Engine, folder: Path, conversations: Sequence[Conversation], dtype: str, device: str, *, name: str
) -> Parity:
    return _merged_and_compared(engine, folder, conversations, _precision(dtype), device)[0]


def _merged_and_compared(
    engine: Engine, folder: Path, conversations: Sequence[Conversation], precision: Precision, device: str
) -> tuple[Parity, list[Prompt]]:
    """Write the merged model; return the result, and the prompts whose ids were compared."""
    assert engine.chat is not None
    change: float | None = None
    model: Any = engine.model
    prompts = [engine.prompt(prompt.conversation) for prompt in _accepted_prompts(engine, conversations)[:4]]
    adapter = None if engine.location is None else adapter_of(engine.location.name)
    if adapter is not None:
        change = check_run_merge(adapter, engine, prompts, device=device)
    elif hasattr(model, "peft_config"):
        before = logits_on(model, prompts)
        model = merge_in_place(model)
        change = check_merge(before, logits_on(model, prompts), _DTYPES[precision])
    write_model_files(model, engine.chat, folder, dtype=_DTYPES[precision])
    parity, compared = check_ids(engine.chat, folder, conversations)
    exported = Engine.load(folder, LoadSettings(precision=precision, device=device))
    ours = Engine(model, engine.tokenizer, chat=engine.chat, name=engine.name)
    return replace(check_answers(parity, ours, exported, compared, exact=True), logit_change=change), compared


def _checked_with_4(folder: Path, compared: Sequence[Prompt], parity: Parity, precision: Precision) -> Parity:
    """Return the result with a line about transformers 4, which computes on the CPU."""
    exported = Engine.load(folder, LoadSettings(precision=precision, device="cpu"))
    return replace(parity, notes=(*parity.notes, check_with_4(folder, exported, compared)))


def _adapter(
    engine: Engine, folder: Path, conversations: Sequence[Conversation], dtype: str, device: str, *, name: str
) -> Parity:
    return write_adapter(engine, folder, conversations, device=device)


def _four_bit(
    engine: Engine, folder: Path, conversations: Sequence[Conversation], dtype: str, device: str, *, name: str
) -> Parity:
    assert engine.chat is not None
    whole = folder / ".whole"
    whole.mkdir()
    _merged(engine, whole, conversations, dtype, device, name=name)
    quantised = Engine.load(whole, LoadSettings(load="4bit", device=device))
    assert quantised.model is not None
    write_model_files(quantised.model, engine.chat, folder)
    shutil.rmtree(whole)
    parity, compared = check_ids(engine.chat, folder, conversations)
    exported = Engine.load(folder, LoadSettings(device=device))
    checked = check_answers(parity, quantised, exported, compared, exact=True)
    return replace(checked, notes=("quantised to nf4: its answers are compared with the quantised model's",))


def _gguf(
    engine: Engine, folder: Path, conversations: Sequence[Conversation], dtype: str, device: str, *, name: str
) -> Parity:
    assert engine.chat is not None
    whole = folder / ".whole"
    whole.mkdir()
    parity, compared = _merged_and_compared(engine, whole, conversations, _precision(dtype), device)
    model: Any = Engine.load(whole, LoadSettings(precision="fp32", device=device)).model
    prompt_ids = [engine.prompt(prompt.conversation) for prompt in _accepted_prompts(engine, conversations)[:4]]
    notes = write_checked_gguf(
        model, engine.chat, folder, conversations, prompts=compared, prompt_ids=prompt_ids, dtype=dtype, name=name
    )
    shutil.rmtree(whole)
    if dtype in PLAIN_TYPES:
        return replace(parity, notes=notes)
    # What was compared is the merged model, not the quantised file; only the notes are about that.
    merged = (
        f"merged, not yet quantised: {parity.answers - parity.answers_differ} of {parity.answers} greedy answers equal"
    )
    return replace(parity, answers=0, answers_differ=0, logit_change=None, notes=(merged, *notes))


def _ollama(
    engine: Engine, folder: Path, conversations: Sequence[Conversation], dtype: str, device: str, *, name: str
) -> Parity:
    assert engine.chat is not None
    chats = [prompt.conversation for prompt in _accepted_prompts(engine, conversations)]
    text, compared = make_modelfile(engine.chat, "./model.gguf", chats)
    if not compared:
        raise ExportError(
            "ollama: no row could be compared with Ollama's template. Expected plain chats. Name some with --data."
        )
    parity = _gguf(engine, folder, conversations, dtype, device, name=name)
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    return replace(parity, notes=(*parity.notes, f"Ollama's template expanded: {compared} prompts equal as text"))


_WRITERS = {"merged": _merged, "adapter": _adapter, "4bit": _four_bit, "gguf": _gguf, "ollama": _ollama}


def _accepted_prompts(engine: Engine, conversations: Sequence[Conversation]) -> list[Prompt]:
    """Return the prompts that the template accepts."""
    prompts = []
    for conversation in conversations:
        if conversation.plain:
            continue
        try:
            candidates = prompts_of(conversation, turns="every")
            for prompt in candidates:
                engine.prompt(prompt.conversation)
        except InstilError:
            continue
        prompts += candidates
    if not prompts:
        raise ExportError(
            "parity: the template accepts none of the rows. Expected rows that it accepts. Name some with --data."
        )
    return prompts
