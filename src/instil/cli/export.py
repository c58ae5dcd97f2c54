"""``instil export``: write a model for others to use, after parity checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from instil.exporting.export import Exported


def export(
    model: str,
    out: Path,
    *,
    target: Annotated[Literal["merged", "adapter", "4bit", "gguf", "ollama"], Parameter(name=["--as"])] = "merged",
    dtype: str = "bf16",
    data: str | None = None,
    device: str = "auto",
    licence: str | None = None,
    push: str | None = None,
    public: bool = False,
    tag: list[str] | None = None,
    every_checkpoint: bool = False,
    check_with: Literal["4"] | None = None,
    quiet: bool = False,
) -> None:
    """Write a model for others to use; stops if ids, stop tokens or answers differ from the run's.

    Args:
        model: Run, model folder or adapter folder.
        out: Folder to write; it must not exist.
        target: merged: a complete model; adapter: the adapter alone; 4bit: quantised (nf4); gguf: for llama.cpp;
            ollama: GGUF and Modelfile.
        dtype: Type of the weights: fp32, bf16 or fp16. For gguf and ollama also llama.cpp's quantised types (extra
            quantise): q8_0, q6_k, q5_k_m, q5_k_s, q5_0, q5_1, q4_k_m, q4_k_s, q4_0, q4_1, iq4_nl, iq4_xs, q3_k_l, q3_k_m,
            q3_k_s, iq3_m, iq3_s, q2_k; a short name such as q4 is q4_k_m. An adapter keeps its own.
        data: Rows to check parity on, in any format that training reads; default: a few built-in probes.
        device: auto, cpu, cuda, cuda:1, mps.
        licence: Licence identifier for the model card, such as apache-2.0; default: the licence of the base model.
        push: Hub repository (owner/name) to upload the export to.
        public: Make a new repository public.
        tag: Tag for the uploaded commit, such as v1; may be repeated.
        every_checkpoint: Export the run's checkpoints too: OUT/step-N for each, and OUT/final. With --push, each goes to
            a branch step-N.
        check_with: 4: load the merged model with transformers 4 too, which is installed into a folder of the cache on
            first use, and compare ids, logits and answers.
        quiet: Print only where the export is, and warnings.
    """
    from instil.api.exports import export as write
    from instil.exporting.next_steps import next_steps
    from instil.screen import Screen

    exported = write(
        model,
        out,
        target=target,
        dtype=dtype,
        data=data,
        device=device,
        licence=licence,
        check_with=check_with,
        push=push,
        public=public,
        tags=tag or (),
        every_checkpoint=every_checkpoint,
    )
    screen = Screen(quiet=quiet)
    for one in (*exported.checkpoints, exported):
        if not quiet:
            screen.heading(f"{target} in {one.folder}")
            screen.facts(_facts(one))
        else:
            screen.line(str(one.folder))
    if exported.licence is None:
        screen.warn("no licence in the model card: the base names none. Set --licence before you share the model.")
    for line in exported.uploaded:
        screen.done(f"uploaded {line}")
    if not quiet:
        screen.heading("Next")
        screen.facts(next_steps(exported.folder, target))


def _facts(exported: Exported) -> list[tuple[str, str]]:
    """Return what stands below the heading: the files with their sizes, and what was compared."""
    from instil.units import byte_size

    files = [f"{name} ({byte_size((exported.folder / name).stat().st_size)})" for name in exported.files]
    first, *others = exported.parity.lines()
    weights = [("weights", exported.weights)] if exported.weights else []
    return [("files", "\n".join(files)), *weights, ("checked", first), *(("", line) for line in others)]
