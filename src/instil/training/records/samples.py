"""What the model answers at each evaluation: to fixed prompts, and in the recipe's tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import InstilError, first_line_of
from instil.evaluation.during_training import heldout_prompts, task_figures
from instil.generation.decoding import context_limit
from instil.generation.engine import Engine
from instil.generation.prompt_length import TooLongPrompt, fit_prompts
from instil.generation.prompts import Prompt
from instil.generation.settings import SamplingSettings
from instil.recipe import EvaluateSettings

NUM_HELDOUT = 3


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a model answered at one evaluation.

    Attributes:
        answers: Answers to the fixed prompts, one JSON object each.
        figures: ``{value, low, high, n}`` for each figure of each task.
        failures: What could not be answered or judged, and why, one line each.
    """

    answers: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: Sequence[str] = ()


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
    """Answers prompts greedily with the model in training. Its mode and attention are restored afterwards.

    Attributes:
        notes: What the length policy did to the prompts, one line each.
    """

    def __init__(
        self, model: Any, chat: ChatTokenizer, settings: EvaluateSettings, *, heldout: Sequence[Conversation]
    ) -> None:
        """Choose the prompts and apply the length policy of training to them.

        Args:
            model: The model in training.
            chat: Its tokenizer and template.
            settings: The recipe's `evaluate`.
            heldout: Held-out conversations.
        """
        self._model, self._chat, self._settings = model, chat, settings
        notes: list[str] = []
        samples = [Prompt(conversation) for conversation in fixed_prompts(settings.samples, heldout)]
        judged = heldout_prompts(heldout, most=settings.max_prompts) if settings.tasks else []
        self._prompts = [prompt.conversation for prompt in self._fit(samples, "samples", notes)]
        self._judged = self._fit(judged, "evaluate.tasks", notes)
        self.notes = tuple(notes)

    def _fit(self, prompts: Sequence[Prompt], what: str, notes: list[str]) -> list[Prompt]:
        """Return the prompts that leave room for an answer, and note the others."""
        own, context = self._chat.settings, context_limit(self._model)
        limit = min((length for length in (own.max_tokens, context) if length is not None), default=None)
        policy: TooLongPrompt = "keep_last_turns" if own.too_long == "keep_last_turns" else "drop"
        printed = [prompt for prompt in prompts if self._is_printed(prompt, what, notes)]
        fitted = fit_prompts(printed, self._chat.prompt, limit=limit, too_long=policy)
        notes += [f"{what}: {line}" for line in fitted.summary()]
        return list(fitted.prompts)

    def _is_printed(self, prompt: Prompt, what: str, notes: list[str]) -> bool:
        """Return whether the template prints a prompt; note why it does not. One such prompt stops no other."""
        if prompt.conversation.plain:
            return True
        try:
            self._chat.prompt(prompt.conversation)
        except InstilError as error:
            notes.append(f"{what}: a prompt is left out: {first_line_of(error)}")
            return False
        return True

    def draw(self) -> Drawn:
        """Answer the fixed prompts and run the tasks on held-out ones."""
        if not self._prompts and not self._judged:
            return Drawn()
        # Blocks compiled for training would be recompiled for caches and single tokens.
        with torch.compiler.set_stance("force_eager"):
            return self._draw(Engine(self._model, self._chat.tokenizer, chat=self._chat))

    def _draw(self, engine: Engine) -> Drawn:
        """Run the tasks, then answer the fixed prompts. Whatever fails is reported, and training continues."""
        failures: list[str] = []
        figures: dict[str, Any] = {}
        answers: list[dict[str, Any]] = []
        with _reported("the tasks", failures):
            figures = self._figures(engine)
        with _reported("the sample answers", failures):
            answers = self._answers(engine)
        return Drawn(answers, figures, failures)

    def _figures(self, engine: Engine) -> dict[str, Any]:
        if not self._judged:
            return {}
        by_name = task_figures(
            engine,
            self._judged,
            tasks=self._settings.tasks,
            max_new_tokens=self._settings.max_new_tokens,
        )
        return {name: asdict(figure) for name, figure in by_name.items()}

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


@contextlib.contextmanager
def _reported(what: str, failures: list[str]) -> Iterator[None]:
    """Turn an error into a line.

    Why: a run of hours must not end because an answer could not be generated or judged. Every error is caught, those of
    libraries too; a signal is none.
    """
    try:
        yield
    except Exception as error:
        failures.append(f"{what} failed ({first_line_of(error)}). Training continues.")


def draw_nothing() -> Drawn:
    """Return no samples: for all processes but the first, and for sharded weights."""
    return Drawn()
