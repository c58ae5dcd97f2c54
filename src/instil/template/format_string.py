r"""A chat template from one plain string, such as ``<|system|>{system}\n<|user|>{user}\n<|assistant|>{assistant}``.

The string shows one exchange; what every turn prints before and after its text is inferred from it. Headers are recognised by being alike
(``<|user|>`` beside ``<|assistant|>``, ``### Instruction:`` beside ``### Response:``); white space after a text belongs to that text's turn. Where
two readings would print different conversations, the string is refused and the place named. An answer must end with something to stop on:
the control token after ``{assistant}``, else one is added. Questionable on purpose: nothing else is added, no beginning-of-text token either; write
``{bos_token}`` where it is wanted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from instil.errors import TemplateError, nearest

OWN_STOP_TOKEN = "<|end|>"
ROLES = ("system", "user", "assistant")
_SPECIAL = ("bos_token", "eos_token")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_CONTROL = r"<[^<>\s]+>|\[[^\[\]\s]+\]|\{eos_token\}"
_PIECE = re.compile(rf"{_CONTROL}|\{{bos_token\}}|\s+|[^\s<\[{{]+|.", re.DOTALL)
_ROLE_WORD = re.compile(
    r"system|user|assistant|human|instruction|input|question|prompt|response|output|answer|model|gpt|bot|ai",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What is printed before and after a role's text."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FormatString:
    """What a format string says.

    Attributes:
        preamble: Printed once, at the start.
        turns: The parts of each role that it has: ``user`` and ``assistant``, perhaps ``system``.
        stop_token: What ends an assistant turn; ``{eos_token}`` stands for the tokenizer's own.
        stop_added: Whether the string had none and this one was added.
    """

    preamble: str
    turns: dict[str, Turn]
    stop_token: str
    stop_added: bool

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Everything it prints that looks like a control token, the stop token included."""
        printed = self.preamble + "".join(turn.before + turn.after for turn in self.turns.values())
        found = [token for token in re.findall(_CONTROL, printed) if not token.startswith("{")]
        return tuple(dict.fromkeys(found))

    @property
    def source(self) -> str:
        """The Jinja template that prints it."""
        lines = ["{{- " + _literal(self.preamble) + " }}"] if self.preamble else []
        lines.append("{%- for message in messages %}")
        for number, (role, turn) in enumerate(self.turns.items()):
            printed = f"{_literal(turn.before)} ~ message.content ~ {_literal(turn.after)}"
            lines.append(f"    {{%- {'elif' if number else 'if'} message.role == '{role}' %}}")
            lines.append("        {{- " + printed + " }}")
        allowed = ", ".join(self.turns)
        lines += [
            "    {%- else %}",
            "        {{- raise_exception('the format string has no part for the role ' ~ message.role ~ '; it has " + allowed + "') }}",
            "    {%- endif %}",
            "{%- endfor %}",
            "{%- if add_generation_prompt %}",
            "    {{- " + _literal(self.turns["assistant"].before) + " }}",
            "{%- endif %}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def is_format_string(text: str) -> bool:
    """Tell a format string from Jinja source, a name and a path.

    Example:
        >>> is_format_string("User: {user} Bot: {assistant}"), is_format_string("{{ messages }}")
        (True, False)
    """
    jinja = "{{" in text or "{%" in text
    return not jinja and any("{" + role + "}" in text for role in ROLES)


def read_format_string(text: str, *, stop_token: str | None = None) -> FormatString:
    r"""Infer every turn's parts from a string that shows one exchange.

    Args:
        text: The string; ``\n`` and ``\t`` written as two characters are line break and tab.
        stop_token: What ends an answer, where the string has no control token after ``{assistant}``. None: `OWN_STOP_TOKEN`.

    Raises:
        TemplateError: If a placeholder is unknown, missing, doubled or out of order, or the string can be read in two ways.

    Example:
        >>> read = read_format_string("<|user|>{user}\n<|assistant|>{assistant}")
        >>> read.turns["user"], read.turns["assistant"]
        (Turn(before='<|user|>', after='\n'), Turn(before='<|assistant|>', after='<|end|>\n'))
    """
    text = text.replace("\\n", "\n").replace("\\t", "\t")
    roles = _roles_in_order(text)
    head, *gaps = re.split("|".join(r"\{" + role + r"\}" for role in roles), text)
    tail = gaps.pop()
    splits = [_split_gap(gap, _alike(head), roles[number : number + 2]) for number, gap in enumerate(gaps)]
    preamble, first = _split_head(head, splits[-1][1], roles[0])
    befores = [first, *(before for _, before in splits)]
    afters = [*(after for after, _ in splits), tail]
    found = re.match(rf"\s*({_CONTROL})", tail)
    if found is None:
        stop = stop_token or OWN_STOP_TOKEN
        afters[-1] = stop + (tail or afters[-2] if not tail.strip() else tail)
    else:
        stop = found.group(1)
    turns = {role: Turn(before, after) for role, before, after in zip(roles, befores, afters, strict=True)}
    return FormatString(preamble, turns, stop, found is None)


def _roles_in_order(text: str) -> list[str]:
    names = _PLACEHOLDER.findall(text)
    allowed = (*ROLES, *_SPECIAL)
    for name in names:
        if name not in allowed:
            raise _refusal(
                f"unknown placeholder {{{name}}}{nearest(name, allowed)}", f"write one of {_listed(allowed)}"
            )
    roles = [name for name in names if name in ROLES]
    for role in ("user", "assistant"):
        if role not in roles:
            raise _refusal(f"no {{{role}}} in it", f"show one exchange with {_listed(('user', 'assistant'))}")
    doubled = next((role for role in roles if roles.count(role) > 1), None)
    if doubled:
        raise _refusal(f"{{{doubled}}} stands in it {roles.count(doubled)} times", "show one exchange only")
    if roles != [role for role in ROLES if role in roles]:
        raise _refusal(f"the order is {_listed(roles)}", f"write them in the order {_listed(ROLES)}")
    return roles


def _alike(header: str) -> list[str]:
    """Give the pieces of a header with the word that names the role blotted out."""
    return [_ROLE_WORD.sub("ROLE", piece) for piece in _PIECE.findall(header)]


def _common_end(text: str, other: list[str]) -> str:
    """Give the longest end of `text`, in whole pieces, that is alike the end of `other`; it must name a role."""
    pieces, blotted = _PIECE.findall(text), _alike(text)
    length = 0
    while length < min(len(pieces), len(other)) and blotted[-1 - length] == other[-1 - length]:
        length += 1
    common = "".join(pieces[len(pieces) - length :]).lstrip()
    return common if _ROLE_WORD.search(common) else ""


def _split_gap(gap: str, header: list[str], between: list[str]) -> tuple[str, str]:
    """Split what stands between two texts into the end of the one turn and the beginning of the next."""
    alike = _common_end(gap, header)
    if alike:
        return gap.removesuffix(alike), alike
    body = gap.lstrip()
    space = gap[: len(gap) - len(body)]
    if space or not body:
        return space, body
    tokens = re.findall(_CONTROL, body)
    ending = re.match(rf"({_CONTROL})(\s*)(?=\S)", body)
    if ending and (ending.group(2) or len(tokens) == 2):
        return ending.group(), body[ending.end() :]
    if len(tokens) > 1:
        where = f"between {{{between[0]}}} and {{{between[1]}}}"
        raise _refusal(
            f"{where} stands {gap!r}, of which either part may belong to either turn",
            "put a line break or a space where the turn ends, or write a Jinja template",
        )
    return "", body


def _split_head(head: str, next_header: str, role: str) -> tuple[str, str]:
    """Split what stands before the first text into what is printed once and what begins each turn of that role."""
    alike = _common_end(head, _alike(next_header))
    if alike:
        return head.removesuffix(alike), alike
    preamble = "{bos_token}" if head.startswith("{bos_token}") else ""
    header = head.removeprefix(preamble)
    if "\n" in header.strip():
        raise _refusal(
            f"before {{{role}}} stand several lines, {header!r}, which may be printed once or in every turn",
            "move what is printed once into the data as a system text, or write a Jinja template",
        )
    return preamble, header


def _literal(text: str) -> str:
    """Write text as a Jinja expression; placeholders of special tokens become variables."""
    pieces = re.split(r"\{(bos_token|eos_token)\}", text)
    written = [
        piece if number % 2 else json.dumps(piece, ensure_ascii=False)
        for number, piece in enumerate(pieces)
        if number % 2 or piece
    ]
    return " ~ ".join(written) or '""'


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join("{" + name + "}" for name in names)


def _refusal(found: str, remedy: str) -> TemplateError:
    return TemplateError(f"format string: {found}; {remedy}")
