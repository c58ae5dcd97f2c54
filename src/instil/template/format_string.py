r"""A chat template from one plain string, such as ``<|system|>{system}\n<|user|>{user}\n<|assistant|>{assistant}``.

The string shows one exchange. What every turn prints before and after its text is inferred from it:

- Headers are recognised by being alike: ``<|user|>`` and ``<|assistant|>``, ``### Instruction:`` and ``### Response:``.
- White space after a text belongs to that text's turn.
- An answer must end with a stop token: the control token after ``{assistant}``. If there is none, one is added.

If a string could be read in two ways that print different conversations, it is refused, and the error names the place.

Why: nothing else is added, not even a beginning-of-text token, so that the string shows all that is printed. Write
``{bos_token}`` to print one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from instil.errors import TemplateError, nearest

OWN_STOP_TOKEN = "<|end|>"
ROLES = ("system", "user", "assistant")
_SPECIAL = ("bos_token", "eos_token")
OTHER_NAMES = {
    **dict.fromkeys(("system_message", "system_prompt", "system_msg", "sys", "SYSTEM"), "system"),
    **dict.fromkeys(("user_message", "user_input", "prompt", "instruction", "input", "INPUT", "question", "query",
                     "human", "message"), "user"),
    **dict.fromkeys(("assistant_message", "response", "output", "OUTPUT", "answer", "completion", "bot", "gpt"),
                    "assistant"),
    **dict.fromkeys(("bos", "BOS"), "bos_token"),
    **dict.fromkeys(("eos", "EOS", "EOS_TOKEN"), "eos_token"),
}  # fmt: skip
"""What course notes and other tools call the placeholders, and their names here."""
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_CONTROL = r"<[^<>\s]+>|\[[^\[\]\s]+\]|\{eos_token\}"
_PIECE = re.compile(rf"{_CONTROL}|\{{bos_token\}}|\s+|[^\s<\[{{]+|.", re.DOTALL)
_ROLE_WORD = re.compile(
    r"system|user|assistant|human|instruction|input|question|prompt|response|output|answer|model|gpt|bot|ai",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """The text that is printed before and after a role's text."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FormatString:
    """A parsed format string.

    Attributes:
        preamble: Printed once, at the start.
        turns: The parts of each role in the string: ``user`` and ``assistant``, optionally ``system``.
        stop_token: The stop token of an assistant turn. ``{eos_token}`` stands for the tokenizer's EOS.
        stop_added: Whether the string had no stop token, so that this one was added.
    """

    preamble: str
    turns: dict[str, Turn]
    stop_token: str
    stop_added: bool

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Everything in the string that looks like a control token, the stop token included."""
        printed = self.preamble + "".join(turn.before + turn.after for turn in self.turns.values())
        found = [token for token in re.findall(_CONTROL, printed) if not token.startswith("{")]
        return tuple(dict.fromkeys(found))

    @property
    def source(self) -> str:
        """The Jinja source of the template."""
        lines = ["{{- " + _literal(self.preamble) + " }}"] if self.preamble else []
        lines.append("{%- for message in messages %}")
        for number, (role, turn) in enumerate(self.turns.items()):
            printed = f"{_literal(turn.before)} ~ message.content ~ {_literal(turn.after)}"
            lines.append(f"    {{%- {'elif' if number else 'if'} message.role == '{role}' %}}")
            lines.append("        {{- " + printed + " }}")
        allowed = ", ".join(self.turns)
        lines += [
            "    {%- else %}",
            "        {{- raise_exception('the format string has no part for the role ' ~ message.role ~ '; it has "
            + allowed + "') }}",
            "    {%- endif %}",
            "{%- endfor %}",
            "{%- if add_generation_prompt %}",
            "    {{- " + _literal(self.turns["assistant"].before) + " }}",
            "{%- endif %}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def is_format_string(text: str) -> bool:
    """Return whether a text is a format string, rather than Jinja source, a name or a path.

    Example:
        >>> is_format_string("User: {user} Bot: {assistant}"), is_format_string("{{ messages }}")
        (True, False)
    """
    jinja = "{{" in text or "{%" in text
    names = [role for role in (*ROLES, *OTHER_NAMES) if "{" + role + "}" in text]
    # One foreign name may stand in any text; two show an exchange, and are explained.
    return not jinja and (len(names) > 1 or any(name in ROLES for name in names))


def read_format_string(text: str, *, stop_token: str | None = None) -> FormatString:
    r"""Infer every turn's parts from a string that shows one exchange.

    Args:
        text: The string. ``\n`` and ``\t`` written as two characters mean a line break and a tab.
        stop_token: The stop token to add if no control token follows ``{assistant}``. None: `OWN_STOP_TOKEN`.

    Raises:
        TemplateError: If a placeholder is unknown, missing, repeated or out of order, or the string is ambiguous.

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
        if name in OTHER_NAMES:
            raise _refusal(
                f"{{{name}}} is called {{{OTHER_NAMES[name]}}} here", f"Write {{{OTHER_NAMES[name]}}} in its place."
            )
        if name not in allowed:
            raise _refusal(f"unknown placeholder {{{name}}}{nearest(name, allowed)}", f"Use one of {_listed(allowed)}.")
    roles = [name for name in names if name in ROLES]
    for role in ("user", "assistant"):
        if role not in roles:
            raise _refusal(f"{{{role}}} is missing", f"Show one exchange with {_listed(('user', 'assistant'))}.")
    doubled = next((role for role in roles if roles.count(role) > 1), None)
    if doubled:
        raise _refusal(f"{{{doubled}}} occurs {roles.count(doubled)} times", "Show only one exchange.")
    if roles != [role for role in ROLES if role in roles]:
        raise _refusal(f"the order is {_listed(roles)}", f"Use the order {_listed(ROLES)}.")
    return roles


def _alike(header: str) -> list[str]:
    """Return the pieces of a header, with the word for the role replaced by ``ROLE``."""
    return [_ROLE_WORD.sub("ROLE", piece) for piece in _PIECE.findall(header)]


def _common_end(text: str, other: list[str]) -> str:
    """Return the longest end of `text`, in complete pieces, that resembles the end of `other` and names a role."""
    pieces, blotted = _PIECE.findall(text), _alike(text)
    length = 0
    while length < min(len(pieces), len(other)) and blotted[-1 - length] == other[-1 - length]:
        length += 1
    common = "".join(pieces[len(pieces) - length :]).lstrip()
    return common if _ROLE_WORD.search(common) else ""


def _split_gap(gap: str, header: list[str], between: list[str]) -> tuple[str, str]:
    """Split the string between two texts into the end of one turn and the header of the next."""
    # 1. A header like those of the other turns.
    alike = _common_end(gap, header)
    if alike:
        return gap.removesuffix(alike), alike
    # 2. White space ends the turn.
    body = gap.lstrip()
    space = gap[: len(gap) - len(body)]
    if space or not body:
        return space, body
    # 3. A control token ends the turn, if white space follows it or exactly one more token.
    tokens = re.findall(_CONTROL, body)
    ending = re.match(rf"({_CONTROL})(\s*)(?=\S)", body)
    if ending and (ending.group(2) or len(tokens) == 2):
        return ending.group(), body[ending.end() :]
    if len(tokens) > 1:
        where = f"between {{{between[0]}}} and {{{between[1]}}}"
        raise _refusal(
            f"{where} is {gap!r}, and it is not clear where the turn ends",
            "Put a line break or a space where the turn ends, or write a Jinja template.",
        )
    return "", body


def _split_head(head: str, next_header: str, role: str) -> tuple[str, str]:
    """Split the string before the first text into the preamble, printed once, and the header of that role's turns."""
    alike = _common_end(head, _alike(next_header))
    if alike:
        return head.removesuffix(alike), alike
    preamble = "{bos_token}" if head.startswith("{bos_token}") else ""
    header = head.removeprefix(preamble)
    if "\n" in header.strip():
        raise _refusal(
            f"several lines before {{{role}}}, {header!r}, may be meant for once or for every turn",
            "Move what is printed once into the data as a system text, or write a Jinja template.",
        )
    return preamble, header


def _literal(text: str) -> str:
    """Return text as a Jinja expression; placeholders of special tokens become variables."""
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
    return TemplateError(f"format string: {found}. {remedy}")
