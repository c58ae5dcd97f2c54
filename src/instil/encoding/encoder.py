"""A conversation to examples, the slow and certain way: every prompt rendered as serving renders it.

For each assistant turn: serving's prompt, the completion behind it, both tokenized without a token across the boundary; then turns are put
into examples (`chain`), weighted, and held against the length limit (`truncation`). Questionable on purpose: the completion's ids are those that
serving would see in the next prompt, wherever prompt and completion tokenized together begin with the prompt's own ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instil.conversation import Conversation, Example
from instil.encoding.grouping import EncodedTurn, Group, group_turns
from instil.encoding.plain_text import plain_prompt, plain_turns
from instil.encoding.settings import EncodingReport, TrainOn
from instil.encoding.turns.completion import Turn, find_completion
from instil.encoding.turns.inline_reasoning import split_reasoning
from instil.encoding.turns.rendering_pieces import laid
from instil.errors import EncodingError, TemplateError
from instil.template.tracing import Rendering

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True)
class TurnText:
    """One assistant turn as text.

    Attributes:
        index: The turn's message index.
        prompt: Serving's prompt.
        completion: What the model must write.
        weight: Its weight, above 0.
    """

    index: int
    prompt: Rendering
    completion: Rendering
    weight: float


@dataclass(frozen=True, slots=True)
class Draft:
    """A conversation whose turns are found as text and not yet tokenized.

    Attributes:
        conversation: The conversation as it is encoded.
        turns: Its turns; none for plain text.
        report: What was noticed so far.
    """

    conversation: Conversation
    turns: list[TurnText]
    report: EncodingReport

    def texts(self) -> Iterator[str]:
        """Give the texts that will be tokenized."""
        for turn in self.turns:
            yield turn.prompt.text
            yield turn.prompt.text + turn.completion.text
        if self.conversation.plain:
            yield from (message.content for message in self.conversation.messages if isinstance(message.content, str))


def encode_conversation(chat: ChatTokenizer, given: Conversation, *, train_on: TrainOn) -> list[Example]:
    """Encode one conversation; see `ChatTokenizer.encode`."""
    return encode_draft(chat, draft_of(chat, given, train_on=train_on), train_on=train_on)


def draft_of(chat: ChatTokenizer, given: Conversation, *, train_on: TrainOn | None = None) -> Draft:
    """Find the turns of a conversation as text; `train_on` as the settings say where it is None.

    Raises:
        EncodingError, TemplateError: As `ChatTokenizer.encode`.
    """
    report = EncodingReport(conversations=1)
    conversation = chat.conversation(given)
    report.inline_reasoning = sum(a is not b for a, b in zip(given.messages, conversation.messages, strict=True))
    last_only = (train_on or chat.settings.train_on) == "last"
    turns = [] if conversation.plain else turn_texts(chat, conversation, report, last_only=last_only)
    return Draft(conversation, turns, report)


def encode_draft(chat: ChatTokenizer, draft: Draft, *, train_on: TrainOn) -> list[Example]:
    """Tokenize a draft, put its turns into examples, and hold them against the length limit."""
    from instil.encoding.truncation import fit

    report = draft.report
    examples = fit(chat, draft.conversation, _examples_of(chat, draft, train_on), train_on=train_on, report=report)
    report.examples = len(examples)
    report.example_tokens = sum(len(example.token_ids) for example in examples)
    chat.report.add(report)
    return examples


def encode_without_limit(chat: ChatTokenizer, conversation: Conversation, *, train_on: TrainOn) -> list[Example]:
    """Encode a conversation whatever its length, uncounted."""
    return _examples_of(chat, draft_of(chat, conversation, train_on=train_on), train_on)


def turn_texts(
    chat: ChatTokenizer, conversation: Conversation, report: EncodingReport, *, last_only: bool = False
) -> list[TurnText]:
    """Find prompt and completion of every assistant turn that has weight, or of the last one alone.

    A turn that is not trained needs no completion, so it may be one that cannot be decided.

    Raises:
        EncodingError: If there is no assistant turn, or a completion cannot be decided.
        TemplateError: If the template refuses the conversation.
    """
    messages, place = conversation.messages, place_of(conversation)
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if not turns:
        raise EncodingError(f"{place}: found no assistant turn; expected at least one to train on; remove the row")
    report.trailing_turns = int(turns[-1] != len(messages) - 1)
    whole = chat.render_messages(conversation, messages)
    texts: list[TurnText] = []
    for index in turns[-1:] if last_only else turns:
        weight = messages[index].weight
        if weight == 0:
            continue
        if index == 0:
            report.untrained_turns += 1  # serving is never asked to begin a conversation
            continue
        prompt = _prompt(chat, conversation, index)
        upto = whole if index == len(messages) - 1 else _upto(chat, conversation, index, whole)
        turn = Turn(
            messages[: index + 1],
            prompt,
            upto,
            render=lambda some, asked: chat.render_messages(conversation, some, add_generation_prompt=asked),
            place=place,
            tags=chat.tags,
        )
        completion = find_completion(turn, chat.stops)
        _check_reasoning(turn, completion, report)
        texts.append(TurnText(index, prompt, completion, 1.0 if weight is None else weight))
    return texts


def encode_turn(chat: ChatTokenizer, conversation: Conversation, turn: TurnText) -> tuple[EncodedTurn, int]:
    """Tokenize a turn's prompt and completion.

    Returns:
        The turn in ids, and how many typed control tokens were made text.
    """
    cuts = chat.typed(laid(turn.prompt, turn.completion), assistant_indices(conversation), place_of(conversation))
    text = turn.completion.text
    prompt_ids = chat.tokens.encode(turn.prompt.text, tuple(cut for cut in cuts if cut < len(turn.prompt.text)))
    completion_ids = _continued(chat, turn.prompt.text, prompt_ids, text, cuts)
    if completion_ids[-1] not in chat.stop_ids:
        # a stop token that the tokenizer sees only as a word by itself, or only before normalising: the model writes its id all the same
        stop = max((each for each in chat.stop_tokens if text.endswith(each)), key=len)
        body = _continued(chat, turn.prompt.text, prompt_ids, text[: -len(stop)], cuts)
        completion_ids = [*body, chat.stop_ids[chat.stop_tokens.index(stop)]]
    return EncodedTurn(turn.index, prompt_ids, completion_ids, turn.weight), len(cuts)


def _continued(chat: ChatTokenizer, prompt: str, prompt_ids: list[int], text: str, cuts: tuple[int, ...]) -> list[int]:
    """Give the ids of a text behind its prompt: those that serving would see there later, where no token crosses the boundary."""
    boundary, end = len(prompt), len(prompt) + len(text)
    cuts = tuple(cut for cut in cuts if cut < end)
    whole = chat.tokens.encode(prompt + text, cuts) if boundary not in cuts else []
    if len(whole) > len(prompt_ids) and whole[: len(prompt_ids)] == prompt_ids:
        return whole[len(prompt_ids) :]
    return chat.tokens.continued(text, tuple(cut - boundary for cut in cuts if cut > boundary))


def prompt_ids(chat: ChatTokenizer, conversation: Conversation) -> list[int]:
    """Give serving's prompt for a conversation; see `ChatTokenizer.prompt`."""
    if conversation.plain:
        return plain_prompt(chat, conversation)
    rendering = chat.render_messages(conversation, conversation.messages, add_generation_prompt=True)
    cuts = chat.typed(rendering, assistant_indices(conversation), place_of(conversation))
    return chat.tokens.encode(rendering.text, cuts)


def assistant_indices(conversation: Conversation) -> frozenset[int]:
    """Give the indices of the assistant's messages."""
    return frozenset(index for index, message in enumerate(conversation.messages) if message.role == "assistant")


def place_of(conversation: Conversation) -> str:
    """Give what an error about a conversation starts with."""
    return "conversation" if conversation.place is None else str(conversation.place)


def _examples_of(chat: ChatTokenizer, draft: Draft, train_on: TrainOn) -> list[Example]:
    if draft.conversation.plain:
        return _plain_examples(chat, draft.conversation, train_on, draft.report)
    return _chat_examples(chat, draft.conversation, draft.turns, train_on, draft.report)


def _chat_examples(
    chat: ChatTokenizer,
    conversation: Conversation,
    texts: list[TurnText],
    train_on: TrainOn,
    report: EncodingReport,
) -> list[Example]:
    escaped: dict[int, int] = {}
    turns: list[EncodedTurn] = []
    for text in texts:
        turn, escaped[text.index] = encode_turn(chat, conversation, text)
        if not turn.prompt_ids:
            raise EncodingError(
                f"{place_of(conversation)}: message {text.index + 1}: serving's prompt is empty under this template; "
                "expected something to answer to; choose another template"
            )
        _check_unknown(chat, turn, conversation)
        turns.append(turn)
    groups = _wanted(chat, conversation, group_turns(turns), report)
    report.escaped += sum(escaped[group.turns[-1].index] for group in groups)
    if groups:
        report.rendering_tokens = len(groups[-1].turns[-1].prompt_ids) + len(groups[-1].turns[-1].completion_ids)
    examples = [example_of(group, conversation, escaped[group.turns[-1].index]) for group in groups]
    if train_on == "all" and examples:
        examples[-1] = _trained_whole(chat, conversation, examples[-1])
    return examples


def _plain_examples(
    chat: ChatTokenizer, conversation: Conversation, train_on: TrainOn, report: EncodingReport
) -> list[Example]:
    turns, escaped = plain_turns(chat, conversation)
    if not turns:
        raise EncodingError(
            f"{place_of(conversation)}: found no text to train on; expected an assistant's text; remove the row"
        )
    turns = [turn for turn in turns if turn.weight > 0]
    if train_on == "last":
        turns = turns[-1:]
    report.escaped += escaped
    groups = group_turns(turns)
    examples = [example_of(group, conversation, escaped) for group in groups]
    report.rendering_tokens = len(examples[-1].token_ids) if examples else 0
    if train_on == "all" and examples:
        examples[-1] = _trained_whole(chat, conversation, examples[-1])
    return examples


def example_of(group: Group, conversation: Conversation, escaped: int = 0) -> Example:
    """Make a group's example; its first token, which nothing precedes, is context."""
    weights = group.weights
    weights[0] = 0.0
    return Example(
        group.token_ids,
        weights,
        place=conversation.place,
        turns=tuple(turn.index for turn in group.turns),
        escaped=escaped,
    )


def _prompt(chat: ChatTokenizer, conversation: Conversation, index: int) -> Rendering:
    try:
        return chat.render_messages(conversation, conversation.messages[:index], add_generation_prompt=True)
    except TemplateError as error:
        raise EncodingError(
            f"{place_of(conversation)}: message {index + 1}: serving could not be asked for it, for the template refuses the messages "
            f"before it ({error}); expected a prompt; give this message weight 0, or mend the order of the messages"
        ) from error


def _upto(chat: ChatTokenizer, conversation: Conversation, index: int, whole: Rendering) -> Rendering:
    for end in range(index + 1, len(conversation.messages)):
        try:
            return chat.render_messages(conversation, conversation.messages[:end])
        except TemplateError:
            continue
    return whole


def _check_reasoning(turn: Turn, completion: Rendering, report: EncodingReport) -> None:
    """Count reasoning that the template leaves out, also where it cuts ``<think>…</think>`` out of an answer's text."""
    if turn.message.reasoning:
        printed = any(source[1] == "reasoning" for _, _, source, _ in completion.runs)
    else:
        apart = split_reasoning(turn.message)
        first = min((offset for _, _, source, offset in completion.runs if source[1] == "content"), default=0)
        printed = not apart.reasoning or first < str(turn.message.content).index("</")
    report.reasoning_ignored += not printed


def _check_unknown(chat: ChatTokenizer, turn: EncodedTurn, conversation: Conversation) -> None:
    unknown = chat.unknown_id
    if unknown is not None and unknown in turn.completion_ids:
        raise EncodingError(
            f"{place_of(conversation)}: message {turn.index + 1}: the tokenizer cannot write all of its characters "
            f"(it gives {chat.added.get(unknown, 'an unknown token')!r}); expected text that it can; remove the row or use another model"
        )


def _wanted(
    chat: ChatTokenizer, conversation: Conversation, groups: list[Group], report: EncodingReport
) -> list[Group]:
    if len(groups) < 2:
        return groups
    report.history_rewritten = 1
    wanted = chat.settings.history_rewritten
    if wanted == "refuse":
        raise EncodingError(
            f"{place_of(conversation)}: the template changes earlier turns as the conversation grows, so that it needs "
            f"{len(groups)} examples; expected one; set data.history_rewritten: every_turn or last_turn"
        )
    return groups if wanted == "every_turn" else groups[-1:]


def _trained_whole(chat: ChatTokenizer, conversation: Conversation, example: Example) -> Example:
    """Train every token of an example, and the turns after its last answer where serving would show them so."""
    ids, weights = list(example.token_ids), [weight or 1.0 for weight in example.weights]
    if not conversation.plain:
        rendering = chat.render_messages(conversation, conversation.messages)
        cuts = chat.typed(rendering, assistant_indices(conversation), place_of(conversation))
        whole = chat.tokens.encode(rendering.text, cuts)
        if whole[: len(ids)] == ids:
            weights += [1.0] * (len(whole) - len(ids))
            ids = whole
    weights[0] = 0.0
    return Example(ids, weights, place=example.place, turns=example.turns, escaped=example.escaped)
