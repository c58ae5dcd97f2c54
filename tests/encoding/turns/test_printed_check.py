"""The check that the template prints a conversation."""

from __future__ import annotations

import pytest
from tests.tiny_chat import tiny_tokenizer

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.encoding.turns.dropped_text import DroppedText
from instil.encoding.turns.printed_check import check_prompt, raise_or_list
from instil.errors import DroppedTextError

LAST_QUESTION = (
    "{% for m in messages %}{% if m.role == 'assistant' or loop.last or loop.nextitem.role == 'assistant' and loop.index0 + 3 > "
    "loop.length %}{{ m.role + ':' + m.content }}<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
TALK = tuple(
    Message(role, text)  # type: ignore[arg-type]
    for role, text in (("user", "First?"), ("assistant", "One"), ("user", "Second?"), ("assistant", "Two"))
)


def chat(template: str, **settings: str) -> ChatTokenizer:
    return ChatTokenizer.from_tokenizer(tiny_tokenizer(), template, settings=EncodingSettings(**settings))  # type: ignore[arg-type]


def test_history_that_later_prompts_leave_out_is_no_loss() -> None:
    """Serving left it out too; the prompt that answers a question prints it."""
    ours = chat(LAST_QUESTION)
    assert [example.dropped for example in ours.encode(Conversation(TALK))] == [(), ()]
    assert ours.decode(ours.prompt(Conversation(TALK[:3]))) == "assistant:One<|im_end|>user:Second?<|im_end|>assistant:"


def test_an_error_names_the_first_text_and_counts_the_others() -> None:
    dropped = [DroppedText("tool 1", "definition", "find"), DroppedText("tool 2", "definition", "x " * 50)]
    context = chat(LAST_QUESTION).context
    with pytest.raises(DroppedTextError, match=r"conversation: tool 1, definition: 'find' and 1 more. Expected"):
        raise_or_list(context, Conversation(TALK), dropped)
    lenient = chat(LAST_QUESTION, dropped_text="accept").context
    assert [len(line) for line in raise_or_list(lenient, Conversation(TALK), dropped)] == [26, 63]
    assert raise_or_list(context, Conversation(TALK), []) == ()


def test_serving_looks_for_what_others_wrote() -> None:
    ours = chat("{% for m in messages %}{{ m.content[:4] }}<|im_end|>{% endfor %}")
    prompt = ours.render(Conversation(TALK[:3]))
    with pytest.raises(DroppedTextError, match=r"message 1 \(user\), text: 't\?' and 1 more"):
        check_prompt(ours.context, Conversation(TALK[:3]), prompt)
