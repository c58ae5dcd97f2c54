"""Templates that nobody wrote, put together from what published ones do: headers, ends, reasoning, calls, system text, generation prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hypothesis import strategies as st
from tests.conformance.tokenizers_made import make_tokenizer

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.turns.reasoning_block import TAG

HEADERS = (
    ("<|im_start|>", "\n"), ("<|", "|>\n"), ("<|", "|>"), ("<|start_header_id|>", "<|end_header_id|>\n\n"), ("### ", ":\n"), ("", ": "),
    ("", ":"), ("[", "] "), ("<", "> "), ("<｜", "｜>"), ("<role>", "</role>"), ("<|role_start|>", "<|role_end|>"), ("【", "】"),
)  # fmt: skip
NAMES = (
    ("system", "user", "assistant", "tool"),
    ("System", "Human", "Assistant", "Tool"),
    ("SYS", "USER", "BOT", "OBS"),
    ("s", "u", "a", "t"),
    ("system", "user", "user_answer", "tool"),
)
ENDS = ("<|im_end|>", "<|end|>", "EOS", "", "<end_of_turn>", "</s>", "<turn|>")
GAPS = ("\n", "", "\n\n", " ")
CONTENTS = (
    "m.content",
    "m.content|trim",
    "(' ' ~ m.content ~ ' ')",
    "('\\n' ~ m.content)",
    "m['content'].strip()",
    "m.content|string",
)
THOUGHTS = (
    ("<think>\n", "\n</think>\n\n"), ("<think>", "</think>"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("[THINK]", "[/THINK]"),
    ("<|channel>thought\n", "<channel|>"), ("◁think▷", "◁/think▷"), ("<reasoning>\n", "\n</reasoning>\n"),
)  # fmt: skip
WHEN_THOUGHT = {
    "never": "false",
    "where there is one": "m.reasoning_content",
    "after the last question": "m.reasoning_content and loop.index0 > ns.asked",
    "in the last message": "m.reasoning_content and loop.last",
    "always": "true",
    "always after the last question": "loop.index0 > ns.asked",
}
CALLS = (
    "",
    '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments|tojson }}}\n</tool_call>',
    '[TOOL_CALLS][{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments|tojson }}}]',
    "<function={{ c.function.name }}>{% for k, v in c.function.arguments.items() %}<{{ k }}>{{ v }}</{{ k }}>{% endfor %}</function>",
)
PROMPTS = (
    "as the header",
    "as the header",
    "header stripped",
    "header and a space",
    "opens a thought",
    "empty thought",
    "none",
)
SYSTEMS = (
    "its own turn",
    "its own turn",
    "joins the first question",
    "joins the last question",
    "made up where none is given",
)
ENDINGS = ("every turn", "every turn", "and eos after the last", "not after the last", "and eos after all")


@dataclass(frozen=True)
class Written:
    """A template, and what its tokenizer needs."""

    source: str
    special: tuple[str, ...]
    bos: str
    eos: str

    def chat(self, family: str) -> ChatTokenizer:
        """Put it on a small tokenizer of a family."""
        return ChatTokenizer.from_tokenizer(
            make_tokenizer(family, template=self.source, special=self.special, bos=self.bos, eos=self.eos)
        )


@st.composite
def templates(draw: st.DrawFn) -> Written:
    """Draw a template."""
    one = lambda choices: draw(st.sampled_from(choices))  # noqa: E731
    opening, closing = one(HEADERS)
    system, user, assistant, tool = (opening + name + closing for name in one(NAMES))
    end, gap = one(ENDS), one(GAPS)
    user_end = one((end, end, "")) + gap
    thought, content = one(THOUGHTS), one(CONTENTS)
    ending, systems = one(ENDINGS), one(SYSTEMS)
    prompt = {
        "as the header": assistant,
        "header stripped": assistant.rstrip(),
        "header and a space": assistant + " ",
        "opens a thought": assistant + thought[0],
        "empty thought": assistant + "".join(thought),
        "none": "",
    }[one(PROMPTS)]
    answer_end = _text(end + one((gap, "", "\n")))
    after_answer = {
        "every turn": answer_end,
        "and eos after the last": answer_end + "{{ eos_token if loop.last }}",
        "not after the last": "{% if not loop.last %}" + answer_end + "{% endif %}",
        "and eos after all": answer_end,
    }[ending]
    rules = {
        "joins the first question": "{{ ns.rules if loop.first }}",
        "joins the last question": "{{ ns.rules if loop.index0 == ns.asked }}",
    }.get(systems, "")
    parts = [
        "{{ bos_token }}{% set ns = namespace(rules='', asked=-1) %}{% set turns = messages %}",
        "{% if messages[0].role == 'system' %}{% set ns.rules = messages[0].content ~ '\\n' %}{% set turns = messages[1:] %}{% endif %}"
        if rules
        else "",
        "{% if messages[0].role != 'system' %}" + _text(system + "You help." + user_end) + "{% endif %}" if "made up" in systems else "",
        "{% for m in turns %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}{% for m in turns %}",
        "{% if m.role == 'user' %}" + _text(user) + rules + "{{ " + content + " }}" + _text(user_end),
        "{% elif m.role == 'system' %}" + _text(system) + "{{ m.content }}" + _text(user_end),
        "{% elif m.role == 'tool' %}" + _text(tool) + "{{ m.content }}" + _text(user_end),
        "{% else %}" + _text(assistant) + "{% if " + WHEN_THOUGHT[one(tuple(WHEN_THOUGHT))] + " %}" + _text(thought[0]),
        "{{ m.reasoning_content or '' }}" + _text(thought[1]) + "{% endif %}{{ " + content + " }}",
        "{% for c in m.tool_calls or [] %}" + one(CALLS) + "{% endfor %}" + after_answer + "{% endif %}{% endfor %}",
        "{% if add_generation_prompt %}" + _text(prompt) + "{% endif %}",
        "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}" if ending == "and eos after all" else "",
    ]  # fmt: skip
    source = "".join(parts)
    special = {
        tag
        for tag in TAG.findall(" ".join((system, user, assistant, tool, end)))
        if "|" in tag or "｜" in tag or "_of_" in tag
    }
    return Written(
        source, tuple(sorted(special)), bos=one(("", "<s>")), eos=one(("</s>", "<|endoftext|>", "<|im_end|>"))
    )


def _text(text: str) -> str:
    """Write a text as a Jinja expression, in which no white space is trimmed."""
    pieces = text.split("EOS")
    return (
        "{{ " + " ~ eos_token ~ ".join(json.dumps(piece, ensure_ascii=False) for piece in pieces) + " }}"
        if text
        else ""
    )
