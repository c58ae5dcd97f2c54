"""Settings for sampling an answer and for loading a model: plain records, no torch.

The command line creates them, the engine reads them.

Why: greedy is the default, because answers that change from run to run cannot be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

from instil.errors import GenerationError, nearest

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
        presence_penalty: Subtracted from the logits of tokens that occur in the answer so far; below 0 it favours them.
        frequency_penalty: Subtracted once for each time that a token occurs in the answer so far.
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
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_new_tokens: int = 256
    seed: int | None = None
    num_answers: int = 1
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, _number(self.temperature, at_least=0), "0 or more")
        _require("top_k", self.top_k, self.top_k is None or _whole(self.top_k, at_least=1), "1 or more, or none")
        above_zero = _number(self.top_p) and 0 < self.top_p <= 1
        _require("top_p", self.top_p, above_zero, "above 0, at most 1")
        _require("min_p", self.min_p, _number(self.min_p) and 0 <= self.min_p < 1, "0 or more, below 1")
        penalty = self.repetition_penalty
        _require("repetition_penalty", penalty, _number(penalty) and penalty > 0, "above 0")
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _require(name, value, _number(value) and -2 <= value <= 2, "-2 to 2")
        _require("max_new_tokens", self.max_new_tokens, _whole(self.max_new_tokens, at_least=1), "1 or more")
        seed_fits = self.seed is None or (_whole(self.seed, at_least=0) and self.seed < 2**63)
        _require("seed", self.seed, seed_fits, "0 to 2^63 - 1, or none")
        _require("num_answers", self.num_answers, _whole(self.num_answers, at_least=1), "1 or more")
        _require("stop", self.stop, _texts(self.stop), "a list of strings that are not empty")

    @property
    def greedy(self) -> bool:
        """Whether every token is the most probable one."""
        return self.temperature == 0


def sampling_settings(**settings: Any) -> SamplingSettings:
    """Return sampling settings from keywords, as Python callers write them; `stop` may be one string.

    Raises:
        GenerationError: If there is no such setting, or a value does not fit.

    Example:
        >>> sampling_settings(temperature=0.7, stop="END").stop
        ('END',)
    """
    _refuse_unknown(settings, [item.name for item in fields(SamplingSettings)])
    stop = settings.get("stop")
    if isinstance(stop, str):
        settings["stop"] = (stop,)
    elif isinstance(stop, list):
        settings["stop"] = tuple(stop)
    return SamplingSettings(**settings)


def load_settings(**settings: Any) -> LoadSettings:
    """Return settings for loading a model from keywords, as Python callers write them.

    Raises:
        GenerationError: If there is no such setting, or a value does not fit.
    """
    names = [item.name for item in fields(LoadSettings)]
    _refuse_unknown(settings, names)
    for name, allowed in (("load", get_args(Load)), ("precision", get_args(Precision)), ("trust_remote_code", _SWITCH)):
        value = settings.get(name, allowed[0])
        _require(name, value, any(value is choice or value == choice for choice in allowed), _listed(allowed))
    for name in ("device", "revision", "template"):
        value = settings.get(name, "")
        may_be_none = value is None and name != "device"
        _require(name, value, may_be_none or isinstance(value, str), "text")
    return LoadSettings(**settings)


def _refuse_unknown(settings: Mapping[str, object], names: Sequence[str]) -> None:
    for name in settings:
        if name not in names:
            raise GenerationError(
                f"{name}: no such setting{nearest(name, names)}. Expected one of {', '.join(names)}. Correct its name."
            )


def _listed(allowed: Sequence[object]) -> str:
    return ", ".join(map(str, allowed[:-1])) + f" or {allowed[-1]}"


def _number(value: object, *, at_least: float | None = None) -> bool:
    """Return whether a value is a finite number; True and False are none."""
    try:
        is_number = isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False
    return is_number and (at_least is None or value >= at_least)  # type: ignore[operator]


def _whole(value: object, *, at_least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= at_least


def _texts(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(text, str) and text for text in value)


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
        dropped_text: When the template does not print some text of a prompt: refuse it, or accept the loss. None: as
            the run's recipe says, else refuse.
    """

    load: Load = "none"
    device: str = "auto"
    precision: Precision = "auto"
    revision: str | None = None
    template: str | None = None
    trust_remote_code: bool = False
    dropped_text: Literal["refuse", "accept"] | None = None


_SWITCH = (False, True)
GREEDY = SamplingSettings()
LOADING = LoadSettings()
