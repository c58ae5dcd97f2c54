"""Answers to fixed prompts at each evaluation: what the losses look like in words.

Generation comes after training in the order of packages, so it is imported when the first sample is drawn, and nowhere else in
training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.training.loop import Sampler

NUM_HELDOUT = 3


def fixed_prompts(asked: Sequence[str], heldout: Sequence[Conversation]) -> list[Conversation]:
    """Give the prompts that are answered: those of the recipe, else the first held-out conversations up to their last answer.

    Example:
        >>> talk = Conversation((Message("user", "Hi"), Message("assistant", "Hello")))
        >>> [prompt.messages[-1].content for prompt in fixed_prompts([], [talk])]
        ['Hi']
    """
    if asked:
        return [Conversation((Message("user", text),)) for text in asked]
    prompts = []
    for conversation in heldout:
        answers = [place for place, message in enumerate(conversation.messages) if message.role == "assistant"]
        if answers and answers[-1] > 0 and not conversation.plain:
            prompts.append(
                Conversation(conversation.messages[: answers[-1]], conversation.tools, conversation.variables)
            )
        if len(prompts) == NUM_HELDOUT:
            break
    return prompts


def make_sampler(model: Any, chat: ChatTokenizer, prompts: Sequence[Conversation], *, max_new_tokens: int) -> Sampler:
    """Give a function that answers the prompts greedily with the model as it is.

    Args:
        model: The model in training; its mode and its attention are as before afterwards.
        chat: Its tokenizer and template.
        prompts: What is asked.
        max_new_tokens: Longest answer.
    """

    def sample() -> list[dict[str, Any]]:
        from instil.generation.engine import Engine
        from instil.generation.settings import SamplingSettings

        engine = Engine(model, chat.tokenizer, chat=chat)
        answers = engine.answer(prompts, SamplingSettings(max_new_tokens=max_new_tokens))
        return [
            {
                "prompt": str(prompt.messages[-1].content),
                "answer": answer.text,
                "finish_reason": answer.generated.finish_reason,
            }
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    return sample if prompts else list
