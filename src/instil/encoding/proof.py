"""The self-check of a template with a tokenizer: what is trained is what is served, shown on conversations that go wrong elsewhere.

Training starts only on a pass. Every check asks transformers' own `apply_chat_template` or compares texts; none asks the encoder to confirm itself.
Questionable on purpose: what a template refuses (no system role, no tools) is no failure, and what the encoder refuses is a finding with its
reason, for a person has to know of it before the data is read.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from instil.conversation import Conversation, Example, Message, ToolCall
from instil.encoding.turns.stop_tokens import PROBE_TOOL
from instil.errors import EncodingError, TemplateError
from instil.template.message_dicts import to_template_messages

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
Severity = Literal["failure", "refused", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the proof found.

    Attributes:
        conversation: Name of the conversation.
        severity: ``failure``: the promise is broken; ``refused``: such conversations are refused; ``note``: worth knowing.
        found: What was found.
        remedy: The setting or action that changes it.
    """

    conversation: str
    severity: Severity
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.conversation}: {self.found}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Proof:
    """What the proof found.

    Attributes:
        passed: Whether nothing failed and the plain conversations are not refused.
        findings: Everything found.
        num_checked: Conversations that the template accepts and that were checked.
    """

    passed: bool
    findings: tuple[Finding, ...]
    num_checked: int

    def lines(self) -> list[str]:
        """Give the proof as lines of text for a terminal."""
        head = "passed" if self.passed else "FAILED"
        return [f"template proof {head}: {self.num_checked} conversations", *map(str, self.findings)]


def _talk(*turns: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, text) for role, text in turns)  # type: ignore[arg-type]


_CALL = ToolCall("find_weather", {"city": "Hanoi"}, "abcdef123")


def proof_conversations(stop: str = "") -> dict[str, Conversation]:
    """Give the conversations of the proof by name; `stop` is typed by a person in one of them."""
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
"""A template whose plain conversations are refused is not fit for training at all."""


def prove(chat: ChatTokenizer) -> Proof:
    """Prove a template with a tokenizer; see the module's text.

    Example:
        >>> chat.prove().passed  # doctest: +SKIP
        True
    """
    # What is proved is the template, whichever turns a recipe trains.
    settings = replace(chat.settings, max_tokens=None, history_rewritten="every_turn", train_on="assistant")
    quiet = copy.copy(chat).with_settings(settings)
    findings: list[Finding] = []
    accepted: list[str] = []
    for name, conversation in proof_conversations(chat.stop_tokens[0]).items():
        conversation = replace(conversation, variables=dict(chat.settings.template_variables))
        try:
            quiet.render(conversation)
        except TemplateError as error:
            remedy = "rows of this kind will be refused; choose another template if you have them"
            findings.append(Finding(name, "note", f"the template refuses it ({error})", remedy))
            continue
        accepted.append(name)
        try:
            examples = quiet.encode(conversation)
        except (EncodingError, TemplateError) as error:
            found, _, remedy = str(error).rpartition("; ")
            findings.append(Finding(name, "refused", found, remedy))
            continue
        findings += [
            Finding(name, "failure", found, "do not train with this template; report it with the template's source")
            for check in _CHECKS
            for found in check(quiet, quiet.conversation(conversation), examples)
        ]
        if name == "single turn":
            findings += _against_marks(quiet, quiet.conversation(conversation), examples)
    bad = any(f.severity == "failure" or (f.severity == "refused" and f.conversation in _PLAIN) for f in findings)
    return Proof(not bad and "single turn" in accepted, tuple(findings), len(accepted))


Check = Callable[["ChatTokenizer", Conversation, Sequence[Example]], Iterator[str]]


def _text_is_transformers_own(chat: ChatTokenizer, given: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    ours = chat.render(given).text
    theirs = chat.template.render_text(given.messages, tools=given.tools, variables=given.variables)
    if ours != theirs:
        yield f"the traced text differs from transformers' own ({ours[-60:]!r} against {theirs[-60:]!r})"


def _every_turn_once(chat: ChatTokenizer, given: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    trained = sorted(turn for example in examples for turn in example.turns)
    wanted = [index for index, message in enumerate(given.messages) if message.role == "assistant" and index]
    if trained != wanted:
        yield f"trained are the turns {trained} where the assistant's are {wanted}"


def _prompts_are_servings(chat: ChatTokenizer, given: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    """The ids before each trained span are `chat.prompt`'s; and transformers' own, where nothing was typed."""
    for turn, prompt, _ in _spans(examples):
        before = replace(given, messages=given.messages[:turn])
        if chat.prompt(before) != prompt:
            yield f"the ids before turn {turn} are not those of chat.prompt"
        if not any(example.escaped for example in examples):
            kwargs: dict[str, Any] = {**given.variables, **({"tools": list(given.tools)} if given.tools else {})}
            theirs = _transformers_prompt(chat, before, kwargs)
            if theirs != prompt:
                yield f"the ids before turn {turn} are not those of transformers' apply_chat_template"


def _ends_with_stop(chat: ChatTokenizer, given: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    for turn, _, completion in _spans(examples):
        if completion[-1] not in chat.stop_ids:
            yield f"turn {turn} does not end with a stop token but with {chat.decode(completion[-1:])!r}"
        if any(number in chat.stop_ids for number in completion[:-1]) and not _stops_within(chat, given, turn):
            yield f"turn {turn} has a stop token before its end"


def _answer_is_whole(chat: ChatTokenizer, given: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    for turn, _, completion in _spans(examples):
        text = "".join(chat.decode(completion).split())
        said = given.messages[turn].content
        said = said if isinstance(said, str) else ""
        written = (said, json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1])
        if not any("".join(each.split()) in text for each in written):
            yield f"turn {turn} trains {text[:60]!r}, which does not hold its whole answer"


def _others_are_not_trained(chat: ChatTokenizer, given: Conversation, examples: Sequence[Example]) -> Iterator[str]:
    for turn, _, completion in _spans(examples):
        text = chat.decode(completion)
        for message in given.messages:
            said = message.content
            if message.role != "assistant" and isinstance(said, str) and len(said.strip()) > 6 and said.strip() in text:
                yield f"turn {turn} trains the {message.role}'s text {said.strip()[:30]!r}"


_CHECKS: tuple[Check, ...] = (
    _text_is_transformers_own,
    _every_turn_once,
    _prompts_are_servings,
    _ends_with_stop,
    _answer_is_whole,
    _others_are_not_trained,
)


def _against_marks(chat: ChatTokenizer, given: Conversation, examples: Sequence[Example]) -> list[Finding]:
    """Hold a template's own ``{% generation %}`` marks against what is trained; serving decides, so a difference is a note."""
    if not _MARKED.search(chat.template.source) or not chat.tokenizer.is_fast:
        return []
    theirs = chat.tokenizer.apply_chat_template(
        to_template_messages(given.messages, shape=chat.template.shape, traced=False),
        chat_template=chat.template.source,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **given.variables,
    )
    marked = chat.decode([each for each, on in zip(theirs["input_ids"], theirs["assistant_masks"], strict=True) if on])
    trained = "".join(chat.decode(completion) for _, _, completion in _spans(examples))
    if "".join(marked.split()) == "".join(trained.split()):
        return []
    found = f"the template marks {marked[:60]!r} as the model's, where serving leaves it {trained[:60]!r} to write"
    return [Finding("single turn", "note", found, "nothing to do: what serving leaves to write is trained")]


def _spans(examples: Sequence[Example]) -> Iterator[tuple[int, list[int], list[int]]]:
    """Give each trained turn with the ids before it and its own."""
    for example in examples:
        ids, weights = list(example.token_ids), [*example.weights, 0.0]
        turns, start = iter(example.turns), None
        for at, weight in enumerate(weights):
            if weight and start is None:
                start = at
            elif not weight and start is not None:
                yield next(turns), ids[:start], ids[start:at]
                start = None


def _stops_within(chat: ChatTokenizer, given: Conversation, turn: int) -> bool:
    """Tell whether the template itself prints a stop token within the turn (it has more than one)."""
    text = chat.render_messages(given, given.messages[: turn + 1]).text
    prompt = chat.render_messages(given, given.messages[:turn], add_generation_prompt=True).text
    return sum(text.count(stop) - prompt.count(stop) for stop in chat.stop_tokens) > 1


def _transformers_prompt(chat: ChatTokenizer, before: Conversation, kwargs: Mapping[str, Any]) -> list[int]:
    if chat.template.date is not None:  # apply_chat_template cannot be told the day
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
