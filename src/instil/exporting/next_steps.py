"""What to do with an export: the commands and calls that load its form."""

from __future__ import annotations

import shlex
from pathlib import Path

from instil.training.model_card.subject import Form


def serving_commands(folder: Path, form: Form) -> list[tuple[str, str]]:
    """Return names and commands of the servers of others that load an exported folder as it is.

    Example:
        >>> serving_commands(Path("out/my chat"), "merged")
        [('vLLM', "vllm serve 'out/my chat'")]
    """
    name = shlex.quote(folder.name)
    if form == "merged":
        return [("vLLM", f"vllm serve {shlex.quote(str(folder))}")]
    if form not in ("gguf", "ollama"):
        return []
    created = f"ollama create {name} -f {shlex.quote(str(folder / 'Modelfile'))} && ollama run {name}"
    llama_cpp = ("llama.cpp", f"llama-server -m {shlex.quote(str(folder / 'model.gguf'))} --jinja")
    return [*([("Ollama", created)] if form == "ollama" else []), llama_cpp]


def next_steps(folder: Path, form: Form) -> list[tuple[str, str]]:
    """Return names and commands for an exported folder.

    Args:
        folder: The export.
        form: Its form.

    Example:
        >>> next_steps(Path("out/chat"), "ollama")[0]
        ('Ollama', 'ollama create chat -f out/chat/Modelfile && ollama run chat')
    """
    card = ("card", f"{folder / 'README.md'} says how others use it")
    if form in ("gguf", "ollama"):
        return [*serving_commands(folder, form), card]
    with_peft = " (with peft installed)" if form == "adapter" else ""
    steps = [
        ("talk", f"instil chat {shlex.quote(str(folder))}"),
        ("transformers", f'pipeline("text-generation", "{folder}"){with_peft}'),
    ]
    return [*steps, *serving_commands(folder, form), card]
