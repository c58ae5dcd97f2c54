"""The header syntaxes of published chat templates, by which a text that is already rendered is recognised.

A *header* is what a template prints before a turn and nobody types by chance: ``<|im_start|>user``, ``[INST]``,
``### Instruction:``. `read_back` reads such a text into messages again.

Why: a quick test for a few characters comes first, because every text of every row is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class HeaderSyntax:
    """One way to mark turns.

    Attributes:
        name: Its name for people.
        header: Matches one header.
        templates: Templates that print it: names of the library, or of `MORE_TEMPLATES`.
        is_certain: Whether two headers show that a text is rendered. If not, it also has to hold an end-of-text token
            and to be read back exactly.
    """

    name: str
    header: re.Pattern[str]
    templates: tuple[str, ...] = ()
    is_certain: bool = True


def _syntax(name: str, header: str, *templates: str, is_certain: bool = True) -> HeaderSyntax:
    return HeaderSyntax(name, re.compile(header, re.MULTILINE), templates, is_certain)


SYNTAXES: tuple[HeaderSyntax, ...] = (
    _syntax("Phi-4", r"<\|im_start\|>(?:system|user|assistant)<\|im_sep\|>", "phi-4"),
    _syntax("ChatML", r"<\|im_start\|>(?:system|developer|user|assistant|tool|function)\b", "chatml"),
    _syntax("Llama 3", r"<\|start_header_id\|>\w+<\|end_header_id\|>", "llama-3.1", "llama-3"),
    _syntax("Llama 4", r"<\|header_start\|>\w+<\|header_end\|>"),
    _syntax("Llama 2 or Mistral", r"\[/?INST\]|<<SYS>>", "llama-2", "mistral"),
    _syntax("Gemma", r"<start_of_turn>(?:user|model|system)\b", "gemma"),
    _syntax("Gemma 4", r"<\|turn>(?:user|model|system)\b"),
    _syntax("Phi-3, Zephyr or GLM", r"<\|(?:system|user|assistant|observation)\|>", "phi-3", "zephyr"),
    _syntax("DeepSeek", r"<｜(?:User|Assistant)｜>", "deepseek"),
    _syntax("Command R", r"<\|START_OF_TURN_TOKEN\|><\|(?:USER|CHATBOT|SYSTEM)_TOKEN\|>", "command-r"),
    _syntax("Granite", r"<\|start_of_role\|>\w+<\|end_of_role\|>", "granite"),
    _syntax("gpt-oss", r"<\|start\|>(?:system|developer|user|assistant)\b"),
    _syntax("Kimi", r"<\|im_(?:system|user|assistant)\|>"),
    _syntax("MiniMax", r"\]~b\](?:system|user|ai|tool)\b"),
    _syntax("EXAONE", r"\[\|(?:system|user|assistant)\|\]"),
    _syntax("Alpaca", r"(?:^|(?<=>))### (?:Instruction|Response):", "alpaca"),
    _syntax("Guanaco", r"### (?:Human|Assistant):", "guanaco-lines", "guanaco"),
    _syntax("Human and Assistant", r"\A\n\nHuman: |(?<=\n\n)Assistant: ", "human-assistant"),
    _syntax("Vicuna", r"(?:^|(?<=[> ]))(?:USER|ASSISTANT): ", "vicuna", is_certain=False),
)
BEGINNINGS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<｜begin▁of▁sentence｜>", "<BOS_TOKEN>")
"""Tokens that may begin a rendered text, or be left out."""
ENDINGS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>")
"""End-of-text tokens that other tools append to a rendered text, or leave out."""
_LEAD = re.compile(
    r"\s*(?:" + "|".join(map(re.escape, (*BEGINNINGS, "[gMASK]<sop>"))) + r")?\s*"
    r"(?:Below is an instruction that describes a task[^\n]*\n\n|A chat between a curious [^\n]*?(?=USER: ))?"
)
"""What may stand before the first header of a rendered text."""
MORE_TEMPLATES = {
    "phi-4": "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}",
    "deepseek": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}{{ eos_token }}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>{% endif %}",
    "command-r": "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|><|{{ {'system': 'SYSTEM', 'user': 'USER', "
    "'assistant': 'CHATBOT'}[m.role] }}_TOKEN|>{{ m.content }}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}",
    "granite": "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}",
    "guanaco": "{% for m in messages %}### {{ {'user': 'Human', 'assistant': 'Assistant'}[m.role] }}: {{ m.content }}"
    "{% endfor %}{% if add_generation_prompt %}### Assistant:{% endif %}",
    "guanaco-lines": "{% for m in messages %}{{ '' if loop.first else '\n' }}"
    "### {{ {'user': 'Human', 'assistant': 'Assistant'}[m.role] }}: {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}\n### Assistant:{% endif %}",
    "human-assistant": "{% for m in messages %}{{ '\n\n' }}{{ {'user': 'Human', 'assistant': 'Assistant'}[m.role] }}: "
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}",
}
"""Templates that are only read, never trained with: how others print turns of text, without tools."""


def may_be_rendered(text: str) -> bool:
    """Return whether a text may hold a header; False is certain.

    Example:
        >>> may_be_rendered("<|im_start|>user"), may_be_rendered("How are you?")
        (True, False)
    """
    # Each header contains one of these. One expression is several times faster than a loop over them.
    return (
        "<|" in text
        or "### Instruction:" in text
        or "### Response:" in text
        or "### Human:" in text
        or "### Assistant:" in text
        or "INST]" in text
        or "<<SYS>>" in text
        or "<start_of_turn>" in text
        or "<｜" in text
        or "]~b]" in text
        or "[|" in text
        or "ssistant: " in text
        or "ASSISTANT: " in text
    )


def syntax_of(text: str) -> HeaderSyntax | None:
    r"""Return the syntax of the first header of a text that holds at least two of them; None if there is none.

    Example:
        >>> syntax_of("<s>[INST] Hi [/INST] Hello").name
        'Llama 2 or Mistral'
        >>> syntax_of("### Instruction:\nOnly a heading.") is None
        True
    """
    if not may_be_rendered(text):
        return None
    found: list[tuple[int, int, HeaderSyntax]] = []
    for number, syntax in enumerate(SYNTAXES):
        headers = syntax.header.finditer(text)
        first, second = next(headers, None), next(headers, None)
        if first is not None and second is not None:
            found.append((first.start(), number, syntax))
    if not found:
        return None
    syntax = min(found)[2]
    return syntax if syntax.is_certain or any(ending in text for ending in ENDINGS) else None


def holds_header(text: str) -> bool:
    """Return whether a text holds a header of a published template."""
    return may_be_rendered(text) and any(syntax.header.search(text) for syntax in SYNTAXES)


def first_syntax(text: str) -> HeaderSyntax | None:
    """Return the syntax whose header a text begins with, behind a BOS token or a usual system text; None if none.

    Example:
        >>> first_syntax("<s>[INST] Hi").name, first_syntax("Write [INST] like this.")
        ('Llama 2 or Mistral', None)
    """
    if not may_be_rendered(text):
        return None
    lead = _LEAD.match(text)
    start = lead.end() if lead else 0
    # Leading white space belongs to the header of one syntax.
    return next((one for one in SYNTAXES if one.header.match(text, start) or one.header.match(text)), None)


@cache
def core_pattern(own: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what may be left out of a rendered text at its beginning and at its end."""
    beginnings = "|".join(map(re.escape, BEGINNINGS))
    endings = "|".join(map(re.escape, dict.fromkeys((*ENDINGS, *(token for token in own if token)))))
    return re.compile(rf"\A(?:{beginnings})"), re.compile(rf"(?:\s|{endings})*\Z")
