"""What a model card is about, as far as the run folder does not tell it: the form of the files, and how they were checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Form: TypeAlias = Literal["merged", "adapter", "4bit", "gguf", "ollama"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSubject:
    """The model of a card.

    Attributes:
        name: Name of the model, and of its folder.
        form: Form of the files, as in `instil export --as`.
        weights: Type of the weights, such as ``bf16`` or ``q4_k_m``; empty if it is not known here.
        stop_tokens: Tokens that end an answer.
        template: Fingerprint of the chat template.
        checks: What was compared when the files were written, one line each.
        repository: Name on the Hub, or None if it is not known.
        licence: Licence identifier. None: the base's own, if that names one.
        step: Step of the run that the weights are from; None for the model that the run ended with.
        title: Title of the card; by default the name.
    """

    name: str
    form: Form = "merged"
    weights: str = ""
    stop_tokens: Sequence[str] = ()
    template: str = ""
    checks: Sequence[str] = ()
    repository: str | None = None
    licence: str | None = None
    step: int | None = None
    title: str = ""

    @property
    def address(self) -> str:
        """The name by which the model is loaded: its Hub id, or its folder."""
        return self.repository or self.name

    @property
    def revision(self) -> str | None:
        """The branch of the repository that holds the model; None for the main one."""
        return None if self.step is None or self.repository is None else f"step-{self.step}"

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are a GGUF file."""
        return self.form in ("gguf", "ollama")
