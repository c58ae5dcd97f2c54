"""What to do with an export: the commands and calls that load its form."""

from __future__ import annotations

from pathlib import Path

from instil.training.model_card.subject import Form


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
        llama_cpp = ("llama.cpp", f"llama-server -m {folder / 'model.gguf'} --jinja")
        created = f"ollama create {folder.name} -f {folder / 'Modelfile'} && ollama run {folder.name}"
        return [*([("Ollama", created)] if form == "ollama" else []), llama_cpp, card]
    with_peft = " (with peft installed)" if form == "adapter" else ""
    steps = [
        ("talk", f"instil chat {folder}"),
        ("transformers", f'pipeline("text-generation", "{folder}"){with_peft}'),
    ]
    vllm = [("vLLM", f"vllm serve {folder}")] if form == "merged" else []
    return [*steps, *vllm, card]
