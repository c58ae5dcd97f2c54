"""How a model is used, for its card: the commands that fit its form, the chat template and the stop tokens."""

from __future__ import annotations

from instil.template.chat_template import ChatTemplate
from instil.template.library import NAMED_TEMPLATES, template_source
from instil.training.model_card.papers import RunPapers
from instil.training.model_card.subject import CardSubject

_TRANSFORMERS = """\
from transformers import pipeline

chat = pipeline("text-generation", "{address}"{revision})
print(chat([{{"role": "user", "content": "Hello"}}], max_new_tokens=256)[0]["generated_text"][-1]["content"])"""
_LLAMA_CPP = """\
from llama_cpp import Llama

model = Llama{source}
print(model.create_chat_completion([{{"role": "user", "content": "Hello"}}])["choices"][0]["message"]["content"])"""


def use_of(papers: RunPapers, subject: CardSubject) -> list[str]:
    """Return the section's lines."""
    lines = ["## How to use it", ""]
    if subject.is_gguf:
        lines += _gguf(subject)
    else:
        revision = f', revision="{subject.revision}"' if subject.revision else ""
        lines += _block("python", _TRANSFORMERS.format(address=subject.address, revision=revision))
        if subject.form == "adapter":
            lines += ["transformers loads the base by itself if peft is installed.", ""]
        elif subject.form == "merged":
            command = f"vllm serve {subject.address}" + (f" --revision {subject.revision}" if subject.revision else "")
            lines += ["As a server with vLLM (not tried here):", "", *_block("sh", command)]
    place = "in the file" if subject.is_gguf else "with the tokenizer"
    lines.append(f"- **Prompt format:** {_template(papers, subject)}, saved {place}.")
    if subject.stop_tokens:
        stops = ", ".join(f"`{token}`" for token in subject.stop_tokens)
        where = "the file's vocabulary" if subject.is_gguf else "generation_config.json"
        lines.append(f"- **An answer ends with** {stops}; {where} says so to every server.")
    if papers.context:
        lines.append(f"- **Context:** at most {papers.context:,} tokens, the answer included.")
    return [*lines, ""]


def _gguf(subject: CardSubject) -> list[str]:
    source = f'("{subject.name}/model.gguf", n_ctx=0)'
    on_hub = []
    if subject.repository and not subject.revision:  # neither command takes a branch
        source = f'.from_pretrained("{subject.repository}", filename="model.gguf", n_ctx=0)'
        on_hub = ["From the Hub:", "", *_block("sh", f"llama-cli -hf {subject.repository}")]
    lines = _block("python", _LLAMA_CPP.format(source=source)) + on_hub
    if subject.form == "ollama":
        name = subject.name.rpartition("/")[2]
        commands = f"ollama create {name} -f {subject.name}/Modelfile\nollama run {name}"
        lines += ["With Ollama (not tried here):", "", *_block("sh", commands)]
    return lines


def _block(language: str, text: str) -> list[str]:
    return [f"```{language}", *text.split("\n"), "```", ""]


def _template(papers: RunPapers, subject: CardSubject) -> str:
    for name in NAMED_TEMPLATES:
        if ChatTemplate(template_source(name)).fingerprint == subject.template:
            return f"the chat template `{name}`"
    template = None if papers.recipe is None else papers.recipe.model.template
    return "its chat template" if template else "the base's own chat template"
