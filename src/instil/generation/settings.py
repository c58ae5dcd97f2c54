"""Settings for sampling an answer and for loading a model: plain records, no torch.

The command line creates them, the engine reads them.

Why: greedy is the default, because answers that change from run to run cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from instil.errors import GenerationError

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]
Load: TypeAlias = Literal["none", "4bit", "8bit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """Settings of one generation: how the next token is chosen, and when an answer ends. The default is greedy.

    Attributes:
        temperature: 0 takes the most probable token (greedy). Above 0, logits are divided by it and a token is drawn.
        top_k: Draw only from this many most probable tokens; None for all.
        top_p: Draw only from the smallest set of tokens whose probabilities reach this sum.
        min_p: Drop tokens less probable than this share of the most probable one.
        repetition_penalty: Above 1, tokens of the prompt and the answer so far become less likely; 1 changes nothing.
        max_new_tokens: Maximum length of an answer, the stop token included.
        seed: Seed of the draws. None draws a seed, which the answer reports. Answer k of a prompt uses seed + k.
        num_answers: Answers per prompt.
        stop: Strings that end the answer. They are not part of it.

    Example:
        >>> SamplingSettings(temperature=0.7, top_p=0.9, seed=1).greedy
        False
        >>> SamplingSettings(temperature=-1)
        Traceback (most recent call last):
        instil.errors.GenerationError: temperature: -1. Expected 0 or more. Change the sampling setting.
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
        _require("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more, or none")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1")
        _require("min_p", self.min_p, 0 <= self.min_p < 1, "0 or more, below 1")
        _require("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "above 0")
        _require("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more")
        _require("seed", self.seed, self.seed is None or 0 <= self.seed < 2**63, "0 to 2^63 - 1, or none")
        _require("num_answers", self.num_answers, self.num_answers >= 1, "1 or more")
        _require("stop", list(self.stop), all(self.stop), "a list of strings that are not empty")

    @property
    def greedy(self) -> bool:
        """Whether every token is the most probable one."""
        return self.temperature == 0


def _require(name: str, value: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise GenerationError(f"{name}: {value!r}. Expected {allowed}. Change the sampling setting.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """Settings for loading a model to generate with.

    Attributes:
        load: `4bit` or `8bit` keeps the weights quantized; `none` keeps them as they are.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: `auto` is bf16 on CUDA and fp32 elsewhere. In fp32, batched answers equal single ones.
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
