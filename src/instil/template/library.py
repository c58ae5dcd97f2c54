"""The named templates: sources in ``library/*.jinja``, and what training a base model with each requires.

The sources were written for this project and print what the published templates print; a test compares them.

Why: no template adds a system text to a conversation without one. Vicuna and Alpaca print their usual system text only
if it is in the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from instil.errors import TemplateError, nearest

_FOLDER = Path(__file__).parent / "library"


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """The properties of a named template.

    Attributes:
        name: Its name, and the name of its file.
        stop_token: The token at the end of an assistant turn; None is the tokenizer's EOS.
        control_tokens: Texts it prints that should be single tokens: the stop token, but not EOS and BOS.
        prints_bos: Whether the text begins with the tokenizer's BOS.
        system: Whether it accepts a system turn.
        tools: Whether it accepts tools.
        summary: One line for `instil template list`.
    """

    name: str
    stop_token: str | None
    control_tokens: tuple[str, ...]
    prints_bos: bool
    system: bool
    tools: bool
    summary: str

    @property
    def source(self) -> str:
        """The Jinja source."""
        return template_source(self.name)


_LLAMA_3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_MISTRAL = (
    *("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
)
_ALL = (
    NamedTemplate(
        "chatml", "<|im_end|>", ("<|im_start|>", "<|im_end|>"), False, True, True,
        "ChatML, with tools and reasoning as Hermes and Qwen write them; the default for base models",
    ),
    NamedTemplate("llama-2", None, (), True, True, False, "Llama 2 chat; turns alternate"),
    NamedTemplate("llama-3", "<|eot_id|>", _LLAMA_3, True, True, False, "Llama 3 Instruct"),
    NamedTemplate(
        "llama-3.1", "<|eot_id|>", (*_LLAMA_3, "<|eom_id|>", "<|python_tag|>"), True, True, True,
        "Llama 3.1 Instruct; prints a date (variable date_string) and takes tools",
    ),
    NamedTemplate("mistral", None, _MISTRAL, True, True, True, "Mistral Instruct v0.3; turns alternate; tools"),
    NamedTemplate(
        "gemma", "<end_of_turn>", ("<start_of_turn>", "<end_of_turn>"), True, True, False,
        "Gemma 2 and 3; turns alternate; the system text joins the first question",
    ),
    NamedTemplate(
        "phi-3", "<|end|>", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), False, True, False, "Phi 3 mini",
    ),
    NamedTemplate("zephyr", None, (), False, True, False, "Zephyr and TinyLlama chat"),
    NamedTemplate("vicuna", None, (), True, True, False, "Vicuna 1.1: USER: … ASSISTANT: …"),
    NamedTemplate("alpaca", None, (), True, True, False, "Alpaca: ### Instruction: … ### Response: …"),
)  # fmt: skip
NAMED_TEMPLATES: Mapping[str, NamedTemplate] = MappingProxyType({template.name: template for template in _ALL})


def named_templates() -> tuple[str, ...]:
    """Return the names, in the order of ``instil template list``.

    Example:
        >>> named_templates()[:3]
        ('chatml', 'llama-2', 'llama-3')
    """
    return tuple(NAMED_TEMPLATES)


@lru_cache(maxsize=32)
def template_source(name: str) -> str:
    """Read the Jinja source of a named template.

    Raises:
        TemplateError: If there is none of that name. The message suggests the nearest.

    Example:
        >>> "<|im_start|>" in template_source("chatml")
        True
    """
    if name not in NAMED_TEMPLATES:
        raise TemplateError(
            f"template {name!r}: there is none of that name{nearest(name, NAMED_TEMPLATES)}. "
            f"Expected one of {', '.join(NAMED_TEMPLATES)}. Run: instil template list"
        )
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
