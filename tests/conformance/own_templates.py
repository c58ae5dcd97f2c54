"""Twenty chat templates of our own, each in the manner of a published family, and what must be trained under each.

The templates are `tests/templates/*.jinja`. The expected texts are written by hand from the template alone: what the model
has to write from the end of serving's prompt up to its stop token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.conformance.cases import TOOL
from tests.conformance.tokenizers_made import make_tokenizer

from instil.encoding.chat_tokenizer import ChatTokenizer

TEMPLATES = Path(__file__).parents[1] / "templates"
_Q, _MORE = {"role": "user", "content": "Two plus two?"}, {"role": "user", "content": "Three plus three?"}
_WHERE = {"role": "user", "content": "Rain?"}


def _call(number: str, city: str) -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": "weather", "arguments": {"city": city}}}


def _result(number: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": number, "name": "weather", "content": text}


CONVERSATIONS: dict[str, dict[str, Any]] = {
    "talk": {"messages": [
        {"role": "system", "content": "Be brief."}, _Q, {"role": "assistant", "content": "Four."},
        _MORE, {"role": "assistant", "content": "Six."},
    ]},
    "thoughts": {"messages": [
        _Q, {"role": "assistant", "content": "Four.", "reasoning_content": "2+2"},
        _MORE, {"role": "assistant", "content": "Six.", "reasoning_content": "3+3"},
    ]},
    "inline thought": {"messages": [_Q, {"role": "assistant", "content": "<think>2+2</think>Four."}]},
    "names": {"messages": [
        {**_Q, "name": "ann"}, {"role": "assistant", "content": "Four.", "name": "max"},
        {**_MORE, "name": "ann"}, {"role": "assistant", "content": "Six.", "name": "max"},
    ]},
    "space": {"messages": [
        {"role": "user", "content": " Two plus two?\n"}, {"role": "assistant", "content": "\nFour,\n\nI think. "},
        _MORE, {"role": "assistant", "content": "Six.\n"},
    ]},
    "call": {"tools": [TOOL], "messages": [
        _WHERE, {"role": "assistant", "content": "", "tool_calls": [_call("abcdef123", "Oslo")]},
        _result("abcdef123", "Yes"), {"role": "assistant", "content": "It rains."},
    ]},
    "calls": {"tools": [TOOL], "messages": [
        _WHERE, {"role": "assistant", "content": "", "tool_calls": [_call("abcdef123", "Oslo"), _call("abcdef456", "Lima")]},
        _result("abcdef123", "Yes"), _result("abcdef456", "No"), {"role": "assistant", "content": "It rains."},
    ]},
    "tools, no call": {"tools": [TOOL], "messages": [
        _Q, {"role": "assistant", "content": "Four."}, _MORE, {"role": "assistant", "content": "Six."},
    ]},
    "thinking on request": {"template_variables": {"thinking": True}, "messages": [
        _Q, {"role": "assistant", "content": "Four.", "reasoning_content": "2+2"},
        _MORE, {"role": "assistant", "content": "Six.", "reasoning_content": "3+3"},
    ]},
}  # fmt: skip


@dataclass(frozen=True)
class OwnTemplate:
    """One template and what is expected of it.

    Attributes:
        stop: The stop token of an answer.
        rewritten: Whether the conversation "talk" needs more than one example.
        expected: For each conversation, its examples, each as the list of its trained texts.
        refused: Conversations that the encoder refuses, with words of its reason.
        special: Control tokens, as the tokenizer's special tokens.
        added: Tags that are added tokens and not special ones.
        bos: Text of the bos token, if there is one.
        eos: Text of the eos token.
    """

    stop: str
    rewritten: bool
    expected: dict[str, list[list[str]]]
    refused: dict[str, str] = field(default_factory=dict)
    special: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    bos: str = ""
    eos: str = "<|endoftext|>"


OWN: dict[str, OwnTemplate] = {
    "role_lines": OwnTemplate(  # ChatML
        stop="<|done|>", rewritten=False, special=("<|turn|>", "<|done|>"),
        expected={
            "talk":     [["Four.<|done|>", "Six.<|done|>"]],
            "thoughts": [["Four.<|done|>", "Six.<|done|>"]],
            "space":    [["\nFour,\n\nI think. <|done|>", "Six.\n<|done|>"]],
        },
        refused={"call": "does not print"},
    ),
    "history_without_thoughts": OwnTemplate(  # Qwen3
        stop="<|shut|>", rewritten=True, special=("<|open|>", "<|shut|>"), added=("<think>", "</think>", "<call>", "</call>"),
        expected={
            "talk":     [["<think>\n\n</think>\n\nFour.<|shut|>"], ["<think>\n\n</think>\n\nSix.<|shut|>"]],
            "thoughts": [["<think>\n2+2\n</think>\n\nFour.<|shut|>"], ["<think>\n3+3\n</think>\n\nSix.<|shut|>"]],
            "call":     [['<think>\n\n</think>\n\n<call>{"tool": "weather", "with": {"city": "Oslo"}}</call><|shut|>'],
                         ["<think>\n\n</think>\n\nIt rains.<|shut|>"]],
        },
    ),
    "thought_cut_from_answer": OwnTemplate(  # DeepSeek-R1
        stop="<｜over｜>", rewritten=True, bos="<｜start｜>", eos="<｜over｜>", special=("<｜Ask｜>", "<｜Answer｜>"),
        added=("<think>", "</think>"),
        expected={
            "talk":           [["\n</think>\n\nFour.<｜over｜>"], ["\n</think>\n\nSix.<｜over｜>"]],
            "thoughts":       [["2+2\n</think>\n\nFour.<｜over｜>"], ["3+3\n</think>\n\nSix.<｜over｜>"]],
            "inline thought": [["2+2\n</think>\n\nFour.<｜over｜>"]],
        },
        refused={"call": "does not print"},
    ),
    "tools_in_first_question": OwnTemplate(  # Mistral 7B v0.2 with tools
        stop="</s>", rewritten=False, bos="<s>", eos="</s>", special=("[ASK]", "[/ASK]", "[CALL]", "[RESULT]", "[/RESULT]"),
        expected={
            "talk":  [["Four.</s>", "Six.</s>"]],
            "calls": [['[CALL][{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "weather", "arguments": {"city": "Lima"}}]</s>',
                       "It rains.</s>"]],
            "tools, no call": [["Four.</s>", "Six.</s>"]],
        },
    ),
    "no_stop_token": OwnTemplate(  # Alpaca's and Vicuna's first
        stop="<|endoftext|>", rewritten=True,
        expected={
            "talk":     [[" Four.<|endoftext|>"], [" Six.<|endoftext|>"]],
            "thoughts": [[" Four.<|endoftext|>"], [" Six.<|endoftext|>"]],
        },
        refused={"call": "does not print"},
    ),
    "headers_in_parts": OwnTemplate(  # Command R
        stop="<|END_PART|>", rewritten=False, bos="<|BOS|>", special=(
            "<|BEGIN_PART|>", "<|RULES_PART|>", "<|PERSON_PART|>", "<|BOT_PART|>", "<|DO|>", "<|DONE|>", "<|SAY|>", "<|SAID|>", "<|END_PART|>",
        ),
        expected={
            "talk":  [["<|SAY|>Four.<|SAID|><|END_PART|>", "<|SAY|>Six.<|SAID|><|END_PART|>"]],
            "space": [["<|SAY|>Four,\n\nI think.<|SAID|><|END_PART|>", "<|SAY|>Six.<|SAID|><|END_PART|>"]],
            "calls": [['<|DO|>[{"tool": "weather", "with": {"city": "Oslo"}}, {"tool": "weather", "with": {"city": "Lima"}}]<|DONE|><|END_PART|>',
                       "<|SAY|>It rains.<|SAID|><|END_PART|>"]],
        },
    ),
    "prompt_opens_thought": OwnTemplate(  # QwQ, MiniMax-M2
        stop="<|over|>", rewritten=True, special=("<|system|>", "<|user|>", "<|assistant|>", "<|over|>"),
        expected={
            "talk":     [["\n</muse>\n\nFour.<|over|>"], ["\n</muse>\n\nSix.<|over|>"]],
            "thoughts": [["2+2\n</muse>\n\nFour.<|over|>"], ["3+3\n</muse>\n\nSix.<|over|>"]],
        },
        refused={"call": "does not print"},
    ),
    "prompt_supplies_empty_block": OwnTemplate(  # models that think on request
        stop="<|fin|>", rewritten=True, special=("<|system|>", "<|user|>", "<|assistant|>", "<|fin|>"),
        expected={
            "talk":                [["Four.<|fin|>"], ["Six.<|fin|>"]],
            "thinking on request": [["<plan>\n2+2\n</plan>\n\nFour.<|fin|>"], ["<plan>\n3+3\n</plan>\n\nSix.<|fin|>"]],
        },
        refused={"thoughts": "so that serving leaves room for its reasoning"},
    ),
    # GPT-2's splitting makes one token of the two line breaks that end a prompt, and two of them before an answer: ids decide
    "dated": OwnTemplate(  # Llama 3.1
        stop="<|turn_end|>", rewritten=True, bos="<|text_begin|>", eos="<|text_end|>",
        special=("<|head|>", "<|text|>", "<|turn_end|>", "<|call_end|>"),
        expected={
            "talk":  [["Four.<|turn_end|>"], ["Six.<|turn_end|>"]],
            "space": [["Four,\n\nI think.<|turn_end|>"], ["Six.<|turn_end|>"]],
            "call":  [['{"tool": "weather", "with": {"city": "Oslo"}}<|call_end|>'], ["It rains.<|turn_end|>"]],
        },
        refused={"calls": "One call a turn"},
    ),
    "system_in_first_question": OwnTemplate(  # Gemma
        stop="<end_from>", rewritten=False, bos="<bos>", eos="<eos>", special=("<from>", "<end_from>"),
        expected={
            "talk":  [["Four.<end_from>", "Six.<end_from>"]],
            "space": [["Four,\n\nI think.<end_from>", "Six.<end_from>"]],
        },
        refused={"call": "alternate"},
    ),
    "next_header_stops": OwnTemplate(  # GLM-4
        stop="<|you|>", rewritten=False, special=("[HEAD]", "<|rules|>", "<|you|>", "<|me|>", "<|seen|>"),
        expected={
            "talk":  [["\nFour.<|you|>", "\nSix.<|you|>"]],
            "call":  [['weather\n{"city": "Oslo"}<|seen|>', "\nIt rains.<|you|>"]],
            "calls": [['weather\n{"city": "Oslo"}\nweather\n{"city": "Lima"}<|seen|>', "\nIt rains.<|you|>"]],
        },
    ),
    "names_in_headers": OwnTemplate(
        stop="<|pass|>", rewritten=False, bos="<s>", eos="</s>", special=("<|from|>", "<|pass|>"),
        expected={
            "talk":  [["Four.<|pass|>", "Six.<|pass|>"]],
            "names": [["Four.<|pass|>"], ["Six.<|pass|>"]],
        },
        refused={"call": "does not print"},
    ),
    "xml_calls": OwnTemplate(  # Qwen3-Coder
        stop="<|out|>", rewritten=False, special=("<|in|>", "<|out|>"),
        expected={
            "talk":  [["Four.<|out|>", "Six.<|out|>"]],
            "call":  [["<do=weather><city>Oslo</city></do><|out|>", "It rains.<|out|>"]],
            "calls": [["<do=weather><city>Oslo</city></do>\n<do=weather><city>Lima</city></do><|out|>", "It rains.<|out|>"]],
        },
    ),
    "channels": OwnTemplate(  # gpt-oss
        stop="<|return|>", rewritten=True, eos="<|return|>", special=("<|begin|>", "<|channel|>", "<|body|>", "<|end|>", "<|call|>"),
        expected={
            "talk":     [["<|channel|>answer<|body|>Four.<|return|>"], ["<|channel|>answer<|body|>Six.<|return|>"]],
            "thoughts": [["<|channel|>aside<|body|>2+2<|end|><|begin|>assistant<|channel|>answer<|body|>Four.<|return|>"],
                         ["<|channel|>aside<|body|>3+3<|end|><|begin|>assistant<|channel|>answer<|body|>Six.<|return|>"]],
            "call":     [[' to=weather<|channel|>tools<|body|>{"city": "Oslo"}<|call|>', "<|channel|>answer<|body|>It rains.<|return|>"]],
        },
    ),
    "bos_at_each_exchange": OwnTemplate(  # Llama 2
        stop="</s>", rewritten=False, bos="<s>", eos="</s>",
        expected={
            "talk":  [[" Four. </s>", " Six. </s>"]],
            "space": [[" Four,\n\nI think. </s>", " Six. </s>"]],
        },
        refused={"call": "alternate"},
    ),
    "ends_by_role": OwnTemplate(  # Phi-3
        stop="<|endoftext|>", rewritten=True, special=("<|system|>", "<|user|>", "<|assistant|>", "<|asked|>", "<|answered|>"),
        expected={
            "talk":  [["Four.<|answered|>\n<|endoftext|>"], ["Six.<|answered|>\n<|endoftext|>"]],
            "space": [["Four,\n\nI think.<|answered|>\n<|endoftext|>"], ["Six.<|answered|>\n<|endoftext|>"]],
        },
        refused={"call": "does not print"},
    ),
    "white_space_differs": OwnTemplate(  # Solar, ChatQA
        stop="</s>", rewritten=True, eos="</s>",
        expected={
            "talk":     [["Four.</s>"], ["Six.</s>"]],
            "thoughts": [["Four.</s>"], ["Six.</s>"]],
        },
        refused={"call": "does not print"},
    ),
    "numbered_turns": OwnTemplate(  # ChatGLM2
        stop="</s>", rewritten=False, eos="</s>",
        expected={
            "talk":     [["Four.</s>", "Six.</s>"]],
            "thoughts": [["Four.</s>", "Six.</s>"]],
        },
        refused={"call": "does not print"},
    ),
    "tools_before_last_question": OwnTemplate(  # Mistral 7B v0.3 and later
        stop="</s>", rewritten=False, bos="<s>", eos="</s>", special=(
            "[TOOLS]", "[/TOOLS]", "[PERSON]", "[/PERSON]", "[RULES]", "[/RULES]", "[SEEN]", "[/SEEN]", "[DO]", "[ID]", "[WITH]",
        ),
        expected={
            "talk":  [["Four.</s>", "Six.</s>"]],
            "call":  [['[DO]weather[ID]abcdef123[WITH]{"city": "Oslo"}</s>', "It rains.</s>"]],
            "calls": [['[DO]weather[ID]abcdef123[WITH]{"city": "Oslo"}[DO]weather[ID]abcdef456[WITH]{"city": "Lima"}</s>', "It rains.</s>"]],
            "tools, no call": [["Four.</s>"], ["Six.</s>"]],
        },
    ),
    "thoughts_kept": OwnTemplate(  # Magistral, Apertus
        stop="</s>", rewritten=False, bos="<s>", eos="</s>", special=(
            "[SYSTEM]", "[/SYSTEM]", "[USER]", "[/USER]", "[TOOL]", "[/TOOL]", "[ME]", "[MUSE]", "[/MUSE]", "[RUN]",
        ),
        expected={
            "talk":           [["Four.</s>", "Six.</s>"]],
            "thoughts":       [["[MUSE]2+2[/MUSE]Four.</s>", "[MUSE]3+3[/MUSE]Six.</s>"]],
            "inline thought": [["[MUSE]2+2[/MUSE]Four.</s>"]],
            "call":           [['[RUN]weather({"city": "Oslo"})</s>', "It rains.</s>"]],
        },
    ),
}  # fmt: skip


@cache
def own_chat(name: str, tokenizer_family: str = "byte_level") -> ChatTokenizer:
    """Put a template on a small tokenizer of a family."""
    own = OWN[name]
    tokenizer = make_tokenizer(
        tokenizer_family,
        template=(TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"),
        special=own.special,
        added=own.added,
        bos=own.bos,
        eos=own.eos,
    )
    return ChatTokenizer.from_tokenizer(tokenizer)
