"""What the model answers at each evaluation: to fixed prompts, and in the recipe's tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.evaluation.during_training import heldout_prompts, task_figures
from instil.generation.engine import Engine
from instil.generation.settings import SamplingSettings
from instil.recipe import EvaluateSettings

NUM_HELDOUT = 3


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a model answered at one evaluation.

    Attributes:
        answers: Answers to the fixed prompts, one JSON object each.
        figures: ``{value, low, high, n}`` for each figure of each task.
    """

    answers: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def fixed_prompts(texts: Sequence[str], heldout: Sequence[Conversation]) -> list[Conversation]:
    """Return the prompts to answer: the recipe's, or else the first held-out conversations up to their last answer.

    Args:
        texts: The recipe's `evaluate.samples`.
        heldout: Held-out conversations.

    Example:
        >>> talk = Conversation((Message("user", "Hi"), Message("assistant", "Hello")))
        >>> [prompt.messages[-1].content for prompt in fixed_prompts([], [talk])]
        ['Hi']
    """
    if texts:
        return [Conversation((Message("user", text),)) for text in texts]
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


class Sampler:
    """Answers prompts greedily with the model in training. Its mode and attention are restored afterwards."""

    def __init__(
        self, model: Any, chat: ChatTokenizer, settings: EvaluateSettings, *, heldout: Sequence[Conversation]
    ) -> None:
        """Choose the prompts.

        Args:
            model: The model in training.
            chat: Its tokenizer and template.
            settings: The recipe's `evaluate`.
            heldout: Held-out conversations.
        """
        self._model, self._chat, self._settings = model, chat, settings
        self._prompts = fixed_prompts(settings.samples, heldout)
        self._judged = heldout_prompts(heldout, most=settings.max_prompts) if settings.tasks else []

    def draw(self) -> Drawn:
        """Answer the fixed prompts and run the tasks on held-out ones."""
        if not self._prompts and not self._judged:
            return Drawn()
        # Blocks compiled for training would be recompiled for caches and single tokens.
        with torch.compiler.set_stance("force_eager"):
            return self._draw(Engine(self._model, self._chat.tokenizer, chat=self._chat))

    def _draw(self, engine: Engine) -> Drawn:
        figures = {}
        if self._judged:
            by_name = task_figures(
                engine,
                self._judged,
                tasks=self._settings.tasks,
                max_new_tokens=self._settings.max_new_tokens,
            )
            figures = {name: asdict(figure) for name, figure in by_name.items()}
        return Drawn(self._answers(engine), figures)

    def _answers(self, engine: Engine) -> list[dict[str, Any]]:
        settings = SamplingSettings(max_new_tokens=self._settings.max_new_tokens)
        answers = engine.answer(self._prompts, settings) if self._prompts else []
        return [
            {
                "prompt": str(prompt.messages[-1].content),
                "answer": answer.text,
                "finish_reason": answer.generated.finish_reason,
            }
            for prompt, answer in zip(self._prompts, answers, strict=True)
        ]


def draw_nothing() -> Drawn:
    """Return no samples: for all processes but the first, and for sharded weights."""
    return Drawn()
