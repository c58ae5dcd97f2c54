"""`instil.export`: write a model for others to use, after parity checks; the command line uses it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal

from instil.api.arguments import check_choice, check_type, path_of
from instil.data import read
from instil.errors import ExportError
from instil.exporting.gguf_types import read_dtype
from instil.exporting.push import Upload, check_push

if TYPE_CHECKING:
    from instil.exporting.export import Exported

_COMPARED = 50
"""Rows that parity is checked on; a file may have millions."""


def export(
    model: Any,
    out: str | PathLike[str],
    *,
    target: Literal["merged", "adapter", "4bit", "gguf", "ollama"] = "merged",
    dtype: str = "bf16",
    data: Any = None,
    device: str = "auto",
    licence: str | None = None,
    check_with: Literal["4"] | None = None,
    push: str | None = None,
    public: bool = False,
    tags: Sequence[str] = (),
    every_checkpoint: bool = False,
) -> Exported:
    """Write a model for others to use; raises if ids, stop tokens or answers differ from the run's.

    Args:
        model: Run (also a `Run`), model folder or adapter folder.
        out: Folder to write; it must not exist.
        target: A complete model, the adapter alone, a model quantised to nf4, a file for llama.cpp, or one with a
            Modelfile for Ollama.
        dtype: Type of the weights: fp32, bf16 or fp16. For GGUF files also q8_0, q6_k, q5_k_m, q4_k_m and the others of
            llama.cpp that need no importance matrix. An adapter keeps its own.
        data: Rows to check parity on: a file, folder, glob or Hub id, or the rows themselves. Default: built-in probes.
        device: auto, cpu, cuda, cuda:1, mps.
        licence: Licence identifier for the model card; by default the base's own.
        check_with: ``4``: load a merged model with transformers 4 too, and compare.
        push: Hub repository (owner/name) to upload the export to.
        public: Make a new repository public.
        tags: Tags for the uploaded commit, such as v1.
        every_checkpoint: Export the run's checkpoints too: ``OUT/step-N`` each, and ``OUT/final``. With `push`, each goes
            to a branch ``step-N``.

    Returns:
        The folder, its files, and the result of the parity check.

    Raises:
        ExportError: If the target cannot hold the model, an argument is wrong, or a parity check fails. Nothing is left
            behind.
        ModelError: If there is no such model.
        MissingPackageError: If the type or the target needs a package that is not installed.

    Example:
        >>> export("runs/demo", "out", dtype="fp32").files  # doctest: +SKIP
    """
    folder = path_of("out", out, ExportError)
    check_choice("target", target, ("merged", "adapter", "4bit", "gguf", "ollama"), ExportError)
    dtype = read_dtype(dtype, target)
    check_type("licence", licence, str, ExportError, expected="an identifier of the Hub, such as apache-2.0")
    if not isinstance(device, str):
        raise ExportError(
            f"device: found {device!r:.80}. Expected auto, cpu, cuda, cuda:1 or mps. Correct the argument."
        )
    if check_with is not None:
        check_choice("check_with", check_with, ("4",), ExportError)
    if not isinstance(model, str | PathLike):
        raise ExportError(
            f"model: found {type(model).__name__}. Expected a run, a model folder or an adapter folder. Pass its path."
        )
    check_type("push", push, str, ExportError, expected="a repository such as owner/name")
    check_type("public", public, bool, ExportError, expected="True or False")
    check_type("every_checkpoint", every_checkpoint, bool, ExportError, expected="True or False")
    tags = [tags] if isinstance(tags, str) else tags
    if not isinstance(tags, list | tuple):
        raise ExportError(f"tags: found {tags!r:.80}. Expected a list of names such as v1. Correct the argument.")
    check_push(push, tags)
    rows = [] if data is None else list(islice(read(data), _COMPARED))

    # Why: torch takes seconds to import, and a wrong argument is reported before that.
    from instil.exporting.every_checkpoint import export_every_checkpoint
    from instil.exporting.export import export as write

    settings: dict[str, Any] = {
        "target": target, "dtype": dtype, "rows": rows, "device": device, "licence": licence,
        "check_with": check_with, "repository": push,
    }  # fmt: skip
    if every_checkpoint:
        *checkpoints, exported = [one for _, one in export_every_checkpoint(fspath(model), folder, **settings)]
        exported = replace(exported, checkpoints=tuple(checkpoints))
    else:
        exported = write(fspath(model), folder, **settings)
    return exported if push is None else _uploaded(exported, Upload(push, private=not public), tags)


def _uploaded(exported: Exported, upload: Upload, tags: Sequence[str]) -> Exported:
    """Upload an export: each checkpoint to a branch of its own, then the model to the main one."""
    upload.start(tags)
    for one in exported.checkpoints:
        upload.send(one.folder, branch=one.folder.name)
    upload.send(exported.folder, tags=tags)
    return replace(exported, uploaded=tuple(upload.done))
