"""One conversation to examples, the certain way: every prompt is rendered as serving renders it.

For each trained turn: serving's prompt and the completion behind it, first as text (`find_turns`), then as ids
without a token across the boundary (`encode_turn`). Turns are put into examples (`grouping`), weighted (`weights`)
and compared with the length limit (`truncation`). `plans` does the same for many conversations at once and is tested
to give the same examples.

Why: if tokenizing prompt and completion together keeps the prompt's ids, the remaining ids are the completion's.
Serving sees the same ids in the next prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from instil.conversation import Conversation, Example, Message
from instil.encoding.context import EncodingContext, assistant_indices, place_of
from instil.encoding.grouping import EncodedTurn, TurnGroup, group_turns
from instil.encoding.plain_text import plain_prompt, plain_turns
from instil.encoding.settings import EncodingReport, TrainOn
from instil.encoding.token_texts import weigh_parts
from instil.encoding.truncation import fit
from instil.encoding.turns.begun_answer import begun_part
from instil.encoding.turns.completion import Turn, find_completion
from instil.encoding.turns.inline_reasoning import begins_with_tag
from instil.encoding.turns.printed_check import PrintedCheck, check_prompt, raise_or_list
from instil.encoding.turns.rendering_pieces import joined
from instil.encoding.weights import example_weights, train_every_token, trained_turns
from instil.errors import EncodingError, TemplateError
from instil.template.tracing import Rendering


@dataclass(frozen=True, slots=True)
class TurnText:
    """One trained turn as text.

    Attributes:
        index: The turn's message index.
        prompt: Serving's prompt.
        completion: What the model must generate.
        weight: Its weight, above 0.
        dropped: What the template does not print of the turn and its context, where the settings accept that.
    """

    index: int
    prompt: Rendering
    completion: Rendering
    weight: float
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A conversation whose turns are found as text and not yet tokenized.

    Attributes:
        conversation: The conversation as it is encoded.
        turns: Its trained turns; none for plain text.
        report: What was noticed so far.
    """

    conversation: Conversation
    turns: list[TurnText]
    report: EncodingReport

    def texts(self) -> Iterator[str]:
        """Yield the texts that will be tokenized."""
        for turn in self.turns:
            yield turn.prompt.text
            yield turn.prompt.text + turn.completion.text
        if self.conversation.plain:
            yield from (message.content for message in self.conversation.messages if isinstance(message.content, str))


def encode_conversation(
    context: EncodingContext, conversation: Conversation, *, train_on: TrainOn
) -> tuple[list[Example], EncodingReport]:
    """Encode one conversation; see `ChatTokenizer.encode`.

    Returns:
        The examples, and the counts for this conversation.
    """
    return encode_draft(context, make_draft(context, conversation, train_on=train_on), train_on=train_on)


def make_draft(context: EncodingContext, original: Conversation, *, train_on: TrainOn) -> Draft:
    """Find the turns of a conversation as text.

    Raises:
        EncodingError, TemplateError: As `ChatTokenizer.encode`.
    """
    report = EncodingReport(conversations=1)
    conversation = context.conversation(original)
    report.inline_reasoning = sum(a is not b for a, b in zip(original.messages, conversation.messages, strict=True))
    report.developer_as_system = context.num_developers_as_system(conversation)
    turns = [] if conversation.plain else find_turns(context, conversation, report, train_on=train_on)
    return Draft(conversation, turns, report)


def encode_draft(context: EncodingContext, draft: Draft, *, train_on: TrainOn) -> tuple[list[Example], EncodingReport]:
    """Tokenize a draft, put its turns into examples, and compare them with the length limit."""
    report = draft.report
    examples = fit(
        draft.conversation,
        _examples_of(context, draft, train_on),
        settings=context.settings,
        report=report,
        encode_again=lambda shorter: _encode_any_length(context, shorter, train_on),
    )
    report.examples = len(examples)
    report.example_tokens = sum(len(example.token_ids) for example in examples)
    return examples, report


def _encode_any_length(context: EncodingContext, conversation: Conversation, train_on: TrainOn) -> list[Example]:
    return _examples_of(context, make_draft(context, conversation, train_on=train_on), train_on)


def find_turns(
    context: EncodingContext, conversation: Conversation, report: EncodingReport, *, train_on: TrainOn
) -> list[TurnText]:
    """Find prompt and completion of every trained turn.

    A turn that is not trained needs no completion, so it may be one that cannot be decided.

    Args:
        context: Tokenizer, template and settings.
        conversation: The conversation as it is encoded.
        report: Counts, which are added to.
        train_on: Which turns are trained.

    Raises:
        EncodingError: If there is no assistant turn, or a completion cannot be decided.
        DroppedTextError: If the template does not print all of it, and the settings refuse that.
        TemplateError: If the template refuses the conversation.
    """
    messages, answers = conversation.messages, assistant_indices(conversation)
    if not answers:
        place = place_of(conversation)
        raise EncodingError(f"{place}: found no assistant turn. Expected at least one to train on. Remove the row.")
    report.trailing_turns = int(max(answers) != len(messages) - 1)
    whole = context.render_messages(conversation, messages)
    texts: list[TurnText] = []
    check = PrintedCheck(context, conversation)
    for index, weight in trained_turns(messages, train_on=train_on):
        if index == 0:
            report.untrained_turns += 1  # serving never asks a model to begin a conversation
            continue
        prompt = _render_prompt(context, conversation, index)
        ends_with_turn = index == len(messages) - 1
        upto = whole if ends_with_turn else _render_up_to(context, conversation, index, whole)
        turn = _turn(context, conversation, index, prompt=prompt, upto=upto)
        completion = find_completion(turn, context.stops)
        dropped = raise_or_list(context, conversation, check.turn(turn, completion))
        texts.append(TurnText(index, prompt, completion, weight, dropped))
    if texts:
        rest = raise_or_list(context, conversation, check.rest(whole, trained=train_on == "all"))
        texts[-1] = replace(texts[-1], dropped=texts[-1].dropped + rest)
    report.reasoning_ignored += check.reasoning_ignored
    report.dropped_text += sum(len(text.dropped) for text in texts)
    return texts


def _turn(
    context: EncodingContext, conversation: Conversation, index: int, *, prompt: Rendering, upto: Rendering
) -> Turn:
    return Turn(
        conversation.messages[: index + 1],
        prompt,
        upto,
        render=lambda some, prompted: context.render_messages(conversation, some, add_generation_prompt=prompted),
        place=place_of(conversation),
        tags=context.tags,
    )


def encode_turn(context: EncodingContext, conversation: Conversation, turn: TurnText) -> tuple[EncodedTurn, int]:
    """Tokenize a turn's prompt and completion.

    Returns:
        The turn in ids, and how many typed control tokens were made ordinary text.
    """
    rendering = joined(turn.prompt, turn.completion)
    breaks = context.typed_breaks(rendering, assistant_indices(conversation), place_of(conversation))
    text = turn.completion.text
    prompt_ids = context.pieces.encode(turn.prompt.text, tuple(at for at in breaks if at < len(turn.prompt.text)))
    completion_ids = _encode_after_prompt(context, turn.prompt.text, prompt_ids, text, breaks)
    if completion_ids[-1] not in context.stop_ids:
        # The tokenizer does not find the stop token here: it matches whole words only, or before normalization only.
        # When the model is served, it generates the token's id all the same.
        stop = max((stop for stop in context.stop_tokens if text.endswith(stop)), key=len)
        body = _encode_after_prompt(context, turn.prompt.text, prompt_ids, text[: -len(stop)], breaks)
        completion_ids = [*body, context.stop_ids[context.stop_tokens.index(stop)]]
    encoded = EncodedTurn(turn.index, prompt_ids, completion_ids, turn.weight)
    return weigh_parts(context, conversation, encoded, turn.completion), len(breaks)


def _encode_after_prompt(
    context: EncodingContext, prompt: str, prompt_ids: list[int], text: str, breaks: tuple[int, ...]
) -> list[int]:
    """Return the ids of a text behind its prompt: those that serving would see later, if no token crosses over."""
    boundary, end = len(prompt), len(prompt) + len(text)
    breaks = tuple(at for at in breaks if at < end)
    together = context.pieces.encode(prompt + text, breaks) if boundary not in breaks else []
    if len(together) > len(prompt_ids) and together[: len(prompt_ids)] == prompt_ids:
        return together[len(prompt_ids) :]
    return context.pieces.encode_more(text, tuple(at - boundary for at in breaks if at > boundary))


def encode_prompt(context: EncodingContext, conversation: Conversation) -> list[int]:
    """Return the ids to generate from; see `ChatTokenizer.prompt`."""
    if conversation.plain:
        return plain_prompt(context, conversation)
    rendering = context.render_messages(conversation, conversation.messages, add_generation_prompt=True)
    check_prompt(context, conversation, rendering)
    breaks = context.typed_breaks(rendering, assistant_indices(conversation), place_of(conversation))
    return context.pieces.encode(rendering.text, breaks)


@dataclass(frozen=True, slots=True)
class BegunAnswer:
    """An answer that the model continues, in ids.

    Attributes:
        prompt_ids: Serving's prompt for the turn.
        token_ids: What the model would have generated up to the end of the begun text.
    """

    prompt_ids: list[int]
    token_ids: list[int]


def encode_begun_answer(context: EncodingContext, original: Conversation) -> BegunAnswer:
    """Encode a conversation whose last message is an answer to continue; see `ChatTokenizer.begun_answer`."""
    conversation = context.conversation(original)
    if conversation.plain:
        return BegunAnswer(plain_prompt(context, conversation), [])
    index, place = len(conversation.messages) - 1, place_of(conversation)
    role = conversation.messages[-1].role
    if role != "assistant" or index == 0:
        found = f"a {role} message" if role != "assistant" else "only a begun answer"
        raise EncodingError(
            f"{place}: found {found} where an answer is to be continued. Expected a question and a begun answer of the "
            "assistant. Add it, or leave continue_final_message out."
        )
    _check_reasoning_is_a_field(
        context, original.messages[-1], conversation.messages[-1], f"{place}: message {index + 1}"
    )
    prompt = _render_prompt(context, conversation, index)
    check_prompt(context, replace(conversation, messages=conversation.messages[:index]), prompt)
    whole = context.render_messages(conversation, conversation.messages)
    turn = _turn(context, conversation, index, prompt=prompt, upto=whole)
    completion = find_completion(turn, context.stops)
    text = begun_part(turn, completion).text
    breaks = context.typed_breaks(joined(prompt, completion), assistant_indices(conversation), place)
    prompt_ids = context.pieces.encode(prompt.text, tuple(at for at in breaks if at < len(prompt.text)))
    return BegunAnswer(prompt_ids, _encode_after_prompt(context, prompt.text, prompt_ids, text, breaks))


def _check_reasoning_is_a_field(context: EncodingContext, given: Message, message: Message, place: str) -> None:
    """Raise if a begun answer ends with or within a reasoning block in its text: where to cut would be a guess."""
    in_text = isinstance(given.content, str) and not given.reasoning and begins_with_tag(given.content)
    # A complete block was moved into its own field; then there must be text behind it.
    is_whole = message is not given and bool(message.content)
    if in_text and context.takes_reasoning and not is_whole:
        raise EncodingError(
            f"{place}: the begun answer ends in a reasoning block within its text. Expected text behind it, or the "
            "reasoning in its own field. Give it as `reasoning_content`, without tags."
        )


def _examples_of(context: EncodingContext, draft: Draft, train_on: TrainOn) -> list[Example]:
    """Return the examples of a draft, whatever their length."""
    encode = _plain_examples if draft.conversation.plain else _chat_examples
    examples = encode(context, draft, train_on)
    if train_on == "all" and examples:
        examples[-1] = _train_all(context, draft.conversation, examples[-1])
    return examples


def _chat_examples(context: EncodingContext, draft: Draft, train_on: TrainOn) -> list[Example]:
    conversation, report = draft.conversation, draft.report
    escaped: dict[int, int] = {}
    turns: list[EncodedTurn] = []
    for text in draft.turns:
        turn, escaped[text.index] = encode_turn(context, conversation, text)
        if not turn.prompt_ids:
            raise EncodingError(
                f"{place_of(conversation)}: message {text.index + 1}: serving's prompt is empty under this template. "
                "Expected something to answer to. Choose another template."
            )
        _check_unknown(context, turn, conversation)
        turns.append(turn)
    groups = _groups_to_train(context, conversation, group_turns(turns), report)
    report.escaped += sum(escaped[group.turns[-1].index] for group in groups)
    if groups:
        report.rendering_tokens = len(groups[-1].turns[-1].prompt_ids) + len(groups[-1].turns[-1].completion_ids)
    dropped = tuple(text for turn_text in draft.turns for text in turn_text.dropped)
    examples = [_example_of(group, conversation, escaped[group.turns[-1].index]) for group in groups]
    return [replace(example, dropped=dropped) for example in examples] if dropped else examples


def _plain_examples(context: EncodingContext, draft: Draft, train_on: TrainOn) -> list[Example]:
    conversation, report = draft.conversation, draft.report
    turns, escaped = plain_turns(context, conversation)
    if not turns:
        raise EncodingError(
            f"{place_of(conversation)}: found no text to train on. Expected an assistant's text. Remove the row."
        )
    trained = dict(trained_turns(conversation.messages, train_on=train_on))
    report.escaped += escaped
    groups = group_turns([turn for turn in turns if turn.index in trained])
    examples = [_example_of(group, conversation, escaped) for group in groups]
    report.rendering_tokens = len(examples[-1].token_ids) if examples else 0
    return examples


def _example_of(group: TurnGroup, conversation: Conversation, escaped: int) -> Example:
    token_ids = group.token_ids
    return Example(
        token_ids,
        example_weights(len(token_ids), group.spans),
        place=conversation.place,
        turns=tuple(turn.index for turn in group.turns),
        escaped=escaped,
    )


def _render_prompt(context: EncodingContext, conversation: Conversation, index: int) -> Rendering:
    """Render serving's prompt for a turn."""
    try:
        return context.render_messages(conversation, conversation.messages[:index], add_generation_prompt=True)
    except TemplateError as error:
        raise EncodingError(
            f"{place_of(conversation)}: message {index + 1}: serving could not ask for this turn, because the template "
            f"refuses the messages before it ({str(error).removesuffix('.')}). Expected a prompt. Give this message "
            "weight 0, or fix the order of the messages."
        ) from error


def _render_up_to(context: EncodingContext, conversation: Conversation, index: int, whole: Rendering) -> Rendering:
    """Render the shortest beginning of a conversation that contains a turn and that the template accepts."""
    for end in range(index + 1, len(conversation.messages)):
        try:
            return context.render_messages(conversation, conversation.messages[:end])
        except TemplateError:
            continue
    return whole


def _check_unknown(context: EncodingContext, turn: EncodedTurn, conversation: Conversation) -> None:
    """Raise EncodingError if the tokenizer has no token for a character that the model must generate."""
    unknown = context.unknown_id
    if unknown is not None and unknown in turn.completion_ids:
        raise EncodingError(
            f"{place_of(conversation)}: message {turn.index + 1}: the tokenizer cannot write all of its characters "
            f"(it gives {context.added.get(unknown, 'an unknown token')!r}). Expected text that it can. Remove the row "
            "or use another model."
        )


def _groups_to_train(
    context: EncodingContext, conversation: Conversation, groups: list[TurnGroup], report: EncodingReport
) -> list[TurnGroup]:
    """Apply `data.history_rewritten` to a conversation that needs several examples."""
    if len(groups) < 2:
        return groups
    report.history_rewritten = 1
    policy = context.settings.history_rewritten
    if policy == "refuse":
        raise EncodingError(
            f"{place_of(conversation)}: the template changes earlier turns as the conversation grows, so that it needs "
            f"{len(groups)} examples. Expected one. Set data.history_rewritten: every_turn or last_turn."
        )
    return groups if policy == "every_turn" else groups[-1:]


def _train_all(context: EncodingContext, conversation: Conversation, example: Example) -> Example:
    """Train every token of an example, and of the turns after its last answer if serving would show them unchanged."""
    token_ids = list(example.token_ids)
    if not conversation.plain:
        rendering = context.render_messages(conversation, conversation.messages)
        breaks = context.typed_breaks(rendering, assistant_indices(conversation), place_of(conversation))
        all_ids = context.pieces.encode(rendering.text, breaks)
        if all_ids[: len(token_ids)] == token_ids:
            token_ids = all_ids
    weights = train_every_token(example.weights, num_tokens=len(token_ids))
    return replace(example, token_ids=token_ids, weights=weights)
