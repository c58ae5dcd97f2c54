"""The self-check of a template with a tokenizer: what is trained is what is served.

It runs on conversations that go wrong with other tools.

Training starts only if it passes. Every check uses transformers' own `apply_chat_template` or compares texts; none
asks the encoder to confirm itself. `Provable` lists everything that the proof needs.

Why: a conversation that the template refuses (no system role, no tools) is not a failure. One that the encoder
refuses is a finding with its reason, because a person must know about it before the data is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

from instil.conversation import Conversation, Example, Message, ToolCall
from instil.encoding.settings import EncodingSettings
from instil.encoding.turns.capabilities import not_carried
from instil.encoding.turns.stop_tokens import PROBE_TOOL
from instil.errors import EncodingError, TemplateError
from instil.template.chat_template import ChatTemplate
from instil.template.message_dicts import to_template_messages
from instil.template.tracing import Rendering

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
Severity = Literal["failure", "refused", "note"]


class Provable(Protocol):
    """What is proved: a tokenizer with its template, as `ChatTokenizer` offers it."""

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""

    @property
    def template(self) -> ChatTemplate:
        """The chat template."""

    @property
    def settings(self) -> EncodingSettings:
        """How conversations become examples."""

    @property
    def stop_tokens(self) -> tuple[str, ...]:
        """Texts of the tokens that end a turn."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Their ids."""

    @property
    def takes_reasoning(self) -> bool:
        """Whether the template has a place for reasoning."""

    def with_settings(self, settings: EncodingSettings) -> Self:
        """Return the same under other settings, with counts of its own."""

    def conversation(self, conversation_like: Any) -> Conversation:
        """Return a conversation as it is encoded."""

    def render(self, conversation: Any, add_generation_prompt: bool = False) -> Rendering:
        """Render a conversation."""

    def encode(self, conversation: Any) -> list[Example]:
        """Make examples."""

    def prompt(self, messages: Any) -> list[int]:
        """Return the ids to generate from."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of the proof.

    Attributes:
        conversation: Name of the conversation.
        severity: ``failure``: the promise is broken; ``refused``: such conversations are refused; ``note``: worth
            knowing.
        found: What was found.
        remedy: The setting or action that changes it.
    """

    conversation: str
    severity: Severity
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.conversation}: {self.found}. {self.remedy}."


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of the proof.

    Attributes:
        passed: Whether nothing failed and the plain conversations are not refused.
        findings: All findings.
        num_checked: Conversations that the template accepts and that were checked.
        not_carried: What the template drops, refuses or receives otherwise; see `turns.capabilities`.
    """

    passed: bool
    findings: tuple[Finding, ...]
    num_checked: int
    not_carried: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the proof as lines of text for a terminal."""
        head = "passed" if self.passed else "FAILED"
        carried = [f"the template does not carry: {', '.join(self.not_carried)}"] if self.not_carried else []
        return [f"template proof {head}: {self.num_checked} conversations", *carried, *map(str, self.findings)]


def _talk(*turns: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, text) for role, text in turns)  # type: ignore[arg-type]


_CALL = ToolCall("find_weather", {"city": "Hanoi"}, "abcdef123")


def proof_conversations(stop: str = "") -> dict[str, Conversation]:
    """Return the conversations of the proof by name; in one of them a person types `stop`."""
    ask, answer = ("user", "Question one?"), ("assistant", "Answer one.")
    more = (("user", "Question two?"), ("assistant", "Answer: two"))
    thinking = (
        Message("user", "Question one?"),
        Message("assistant", "Answer one.", reasoning="Thought one."),
        Message("user", "Question two?"),
        Message("assistant", "Answer two.", reasoning="Thought two."),
    )
    calling = (
        Message("user", "Weather in Hanoi?"),
        Message("assistant", "", tool_calls=(_CALL,)),
        Message("tool", "25 degrees", tool_call_id=_CALL.id, name=_CALL.name),
        Message("assistant", "It is warm."),
    )
    return {
        "single turn": Conversation(_talk(ask, answer)),
        "two turns": Conversation(_talk(ask, answer, *more)),
        "system, two turns": Conversation(_talk(("system", "Be brief."), ask, answer, *more)),
        "ends with the user": Conversation(_talk(ask, answer, ("user", "Question two?"))),
        "two users in a row": Conversation(_talk(("user", "By the way."), ask, answer)),
        "two answers in a row": Conversation(_talk(ask, answer, ("assistant", "And more."))),
        "system in the middle": Conversation(_talk(ask, answer, ("system", "Be brief."), *more)),
        "starts with the assistant": Conversation(_talk(("assistant", "Welcome."), ask, answer)),
        "empty answer": Conversation(_talk(ask, ("assistant", ""), *more)),
        "white space": Conversation(
            _talk(("user", "  Question? \n"), ("assistant", "\nline one\n\nline two  "), *more)
        ),
        "brackets": Conversation(_talk(ask, ("assistant", "[[1, 2], [3, 4]]"))),
        "emoji and Chinese": Conversation(
            _talk(("user", "天空为什么是蓝色的？🌈"), ("assistant", "由于光的散射。🌈 vâng ạ"))
        ),
        "control tokens typed": Conversation(
            _talk(("user", f"Say {stop} and{stop} more"), ("assistant", f"An {stop} answer"), *more)
        ),
        "reasoning": Conversation(thinking),
        "tool call": Conversation(calling, tools=(PROBE_TOOL,)),
    }


_PLAIN = ("single turn", "two turns")
"""A template whose plain conversations are refused cannot be used for training at all."""


def prove(chat: Provable) -> Proof:
    """Prove a template with a tokenizer; see the module's docstring.

    Example:
        >>> chat.prove().passed  # doctest: +SKIP
        True
    """
    # The template is proved, whichever turns a recipe trains and however long its examples may be.
    settings = replace(
        chat.settings, max_tokens=None, history_rewritten="every_turn", train_on="assistant", dropped_text="refuse"
    )
    quiet = chat.with_settings(settings)
    findings: list[Finding] = []
    accepted: list[str] = []
    for name, conversation in proof_conversations(chat.stop_tokens[0]).items():
        conversation = replace(conversation, variables=dict(chat.settings.template_variables))
        try:
            quiet.render(conversation)
        except TemplateError as error:
            remedy = "Rows of this kind will be refused. Choose another template if you have them"
            findings.append(Finding(name, "note", f"the template refuses it ({error})", remedy))
            continue
        accepted.append(name)
        try:
            examples = quiet.encode(conversation)
        except (EncodingError, TemplateError) as error:
            # The last sentence of an error is what to do.
            found, _, remedy = str(error).removesuffix(".").rpartition(". ")
            if not found:
                found, remedy = remedy, "Choose another template if you have such rows"
            findings.append(Finding(name, "refused", found, remedy))
            continue
        findings += [
            Finding(name, "failure", found, "Do not train with this template, and report it with its source")
            for check in _CHECKS
            for found in check(quiet, quiet.conversation(conversation), examples)
        ]
        if name == "single turn":
            findings += _against_marks(quiet, quiet.conversation(conversation), examples)
    bad = any(f.severity == "failure" or (f.severity == "refused" and f.conversation in _PLAIN) for f in findings)
    missing = not_carried(quiet.encode, takes_reasoning=quiet.takes_reasoning, developer=chat.template.shape.developer)
    return Proof(not bad and "single turn" in accepted, tuple(findings), len(accepted), missing)


Check = Callable[[Provable, Conversation, Sequence[Example]], Iterator[str]]


def _text_is_transformers_own(chat: Provable, conversation: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    ours = chat.render(conversation).text
    theirs = chat.template.render_text(
        conversation.messages, tools=conversation.tools, variables=conversation.variables
    )
    if ours != theirs:
        yield f"the traced text differs from transformers' own ({ours[-60:]!r} against {theirs[-60:]!r})"


def _every_turn_once(chat: Provable, conversation: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    trained = sorted(turn for example in examples for turn in example.turns)
    expected = [index for index, message in enumerate(conversation.messages) if message.role == "assistant" and index]
    if trained != expected:
        yield f"the trained turns are {trained}, but the assistant's turns are {expected}"


def _prompts_are_servings(chat: Provable, conversation: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    """The ids before each trained span are `chat.prompt`'s, and transformers' own if no control token was typed."""
    for turn, prompt, _ in _spans(examples):
        before = replace(conversation, messages=conversation.messages[:turn])
        if chat.prompt(before) != prompt:
            yield f"the ids before turn {turn} are not those of chat.prompt"
        if not any(example.escaped for example in examples):
            kwargs: dict[str, Any] = {
                **conversation.variables,
                **({"tools": list(conversation.tools)} if conversation.tools else {}),
            }
            theirs = _transformers_prompt(chat, before, kwargs)
            if theirs != prompt:
                yield f"the ids before turn {turn} are not those of transformers' apply_chat_template"


def _ends_with_stop(chat: Provable, conversation: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    for turn, _, completion in _spans(examples):
        if completion[-1] not in chat.stop_ids:
            yield f"turn {turn} does not end with a stop token but with {chat.decode(completion[-1:])!r}"
        if any(number in chat.stop_ids for number in completion[:-1]) and not _stops_within(chat, conversation, turn):
            yield f"turn {turn} has a stop token before its end"


def _answer_is_whole(chat: Provable, conversation: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    for turn, _, completion in _spans(examples):
        text = "".join(chat.decode(completion).split())
        content = conversation.messages[turn].content
        answer = content if isinstance(content, str) else ""
        # A template may print an answer as JSON.
        written = (answer, json.dumps(answer)[1:-1], json.dumps(answer, ensure_ascii=False)[1:-1])
        if not any("".join(variant.split()) in text for variant in written):
            yield f"turn {turn} trains {text[:60]!r}, which does not contain its complete answer"


def _others_are_not_trained(chat: Provable, conversation: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    for turn, _, completion in _spans(examples):
        text = chat.decode(completion)
        for message in conversation.messages:
            content = message.content.strip() if isinstance(message.content, str) else ""
            # Shorter texts may occur in an answer by chance.
            if message.role != "assistant" and len(content) > 6 and content in text:
                yield f"turn {turn} trains the {message.role}'s text {content[:30]!r}"


_CHECKS: tuple[Check, ...] = (
    _text_is_transformers_own,
    _every_turn_once,
    _prompts_are_servings,
    _ends_with_stop,
    _answer_is_whole,
    _others_are_not_trained,
)


def _against_marks(chat: Provable, conversation: Conversation, examples: Sequence[Example]) -> list[Finding]:
    """Compare the template's ``{% generation %}`` marks with what is trained.

    Serving decides what is trained, so a difference is a note.
    """
    if not _MARKED.search(chat.template.source) or not chat.tokenizer.is_fast:
        return []
    theirs = chat.tokenizer.apply_chat_template(
        to_template_messages(conversation.messages, shape=chat.template.shape, traced=False),
        chat_template=chat.template.source,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **conversation.variables,
    )
    marked = chat.decode(
        [token for token, is_marked in zip(theirs["input_ids"], theirs["assistant_masks"], strict=True) if is_marked]
    )
    trained = "".join(chat.decode(completion) for _, _, completion in _spans(examples))
    if "".join(marked.split()) == "".join(trained.split()):
        return []
    found = f"the template marks {marked[:60]!r} as the model's, but serving leaves {trained[:60]!r} to the model"
    return [Finding("single turn", "note", found, "Nothing to do: what serving leaves to the model is trained")]


def _spans(examples: Sequence[Example]) -> Iterator[tuple[int, list[int], list[int]]]:
    """Yield each trained turn with the ids before it and its own."""
    for example in examples:
        ids, weights = list(example.token_ids), [*example.weights, 0.0]
        turns, start = iter(example.turns), None
        for at, weight in enumerate(weights):
            if weight and start is None:
                start = at
            elif not weight and start is not None:
                yield next(turns), ids[:start], ids[start:at]
                start = None


def _stops_within(chat: Provable, conversation: Conversation, turn: int) -> bool:
    """Return whether the template itself prints a stop token within the turn, so that the turn has more than one."""
    text = chat.render(replace(conversation, messages=conversation.messages[: turn + 1])).text
    prompt = chat.render(replace(conversation, messages=conversation.messages[:turn]), add_generation_prompt=True).text
    return sum(text.count(stop) - prompt.count(stop) for stop in chat.stop_tokens) > 1


def _transformers_prompt(chat: Provable, before: Conversation, kwargs: Mapping[str, Any]) -> list[int]:
    if chat.template.date is not None:  # apply_chat_template always prints the current day
        text = chat.template.render_text(
            before.messages, tools=before.tools, variables=before.variables, add_generation_prompt=True
        )
        return list(chat.tokenizer(text, add_special_tokens=False)["input_ids"])
    template = chat.template.given(before.tools)
    messages = to_template_messages(before.messages, shape=template.shape, traced=False)
    return list(
        chat.tokenizer.apply_chat_template(
            messages,
            chat_template=template.source,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **kwargs,
        )
    )
