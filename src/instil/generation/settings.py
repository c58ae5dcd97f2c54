"""How an answer is sampled, and how a model is loaded to answer: plain records, no torch.

The command line makes them, the engine reads them. Questionable on purpose: greedy is the default, because an answer that
changes with the weather cannot be compared with another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from instil.errors import GenerationError

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]
Load: TypeAlias = Literal["none", "4bit", "8bit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How the next token is chosen, and when an answer ends. The default is greedy.

    Attributes:
        temperature: 0 takes the most probable token (greedy); above 0 the logits are divided by it and a token is drawn.
        top_k: Draw from this many most probable tokens only; None for all.
        top_p: Draw from the smallest set of tokens whose probabilities reach this sum.
        min_p: Leave out tokens less probable than this share of the most probable one.
        repetition_penalty: Above 1 makes tokens of the prompt and the answer so far less likely; 1 changes nothing.
        max_new_tokens: Longest answer, the stop token included.
        seed: Seed of the draw; None draws a seed, which the answer reports. Answer number k of a prompt uses seed + k.
        num_answers: Answers per prompt.
        stop: Strings that end the answer; they are not part of it.

    Example:
        >>> SamplingSettings(temperature=0.7, top_p=0.9, seed=1).greedy
        False
        >>> SamplingSettings(temperature=-1)
        Traceback (most recent call last):
        instil.errors.GenerationError: temperature: found -1; allowed is 0 or more; mend the sampling setting
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    seed: int | None = None
    num_answers: int = 1
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, self.temperature >= 0, "0 or more")
        _require("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more, or nothing")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1")
        _require("min_p", self.min_p, 0 <= self.min_p < 1, "0 or more, below 1")
        _require("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "above 0")
        _require("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more")
        _require("seed", self.seed, self.seed is None or 0 <= self.seed < 2**63, "0 to 2^63 - 1, or nothing")
        _require("num_answers", self.num_answers, self.num_answers >= 1, "1 or more")
        _require("stop", list(self.stop), all(self.stop), "a list of strings that are not empty")

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken each time."""
        return self.temperature == 0


def _require(name: str, found: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise GenerationError(f"{name}: found {found!r}; allowed is {allowed}; mend the sampling setting")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How a model is loaded to answer.

    Attributes:
        load: `4bit` or `8bit` keeps the weights quantised; `none` as they are.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: `auto` is bf16 on CUDA and fp32 elsewhere, where batched answers equal single ones.
        revision: Branch, tag or commit of a Hub id.
        template: Chat template to use instead of the model's own.
        trust_remote_code: Run Python code that comes with the model.
    """

    load: Load = "none"
    device: str = "auto"
    precision: Precision = "auto"
    revision: str | None = None
    template: str | None = None
    trust_remote_code: bool = False


GREEDY = SamplingSettings()
LOADING = LoadSettings()
