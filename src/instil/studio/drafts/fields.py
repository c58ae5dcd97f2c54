"""The fields of the form, made from the recipe's own schema: kind, choices, default, unit, and where each is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from instil.recipe import Recipe, Settings, Source
from instil.studio.drafts.text import sweep_in
from instil.sweeps.space import NOT_SWEPT, plain_kinds

Kind = Literal["choice", "switch", "number", "text", "names", "lines", "mapping", "sources"]
REFUSED: Mapping[str, str] = {
    "model.trust_remote_code": "recipe.forbidden",
    "data.cluster": "recipe.sends",
    "parallel.launcher": "recipe.sends",
    "tracking.to": "recipe.sends",
    "tracking.project": "recipe.sends",
    "tracking.name": "recipe.sends",
    "checkpoint.mirror": "recipe.sends",
}
"""Settings that no page may set, because they run foreign code or send data to another machine; each with the text that says so."""
ALLOWED: Mapping[str, tuple[object, ...]] = {
    "model.trust_remote_code": (False,),
    "data.cluster": ("none",),
    "parallel.launcher": ("own",),
    "tracking.to": ([], "tensorboard"),
}
"""Values of them that do neither."""
NO_FIELD = REFUSED.keys() - {"tracking.to"} | {"parallel.fewest_processes"}
"""Settings that the form has no field for: these, and what only a launcher of them reads."""
MAIN = frozenset(
    {
        "output",
        "model.name",
        "adapter.kind",
        "adapter.rank",
        "adapter.alpha",
        "adapter.resume_from",
        "data.sources",
        "data.heldout",
        "data.max_tokens",
        "training.objective",
        "training.epochs",
        "training.batch_size",
        "preference.beta",
        "preference.margin",
        "optimizer.lr",
        "optimizer.schedule",
        "evaluate.every",
        "evaluate.tasks",
    }
)
"""Settings that are open; the others are under "more", unless the recipe sets them."""
UNITS: Mapping[str, str] = {
    "threads": "threads",
    "data.max_tokens": "tokens",
    "data.heldout_max": "rows",
    "data.workers": "processes",
    "training.epochs": "passes",
    "training.max_steps": "steps",
    "training.batch_size": "examples",
    "training.micro_batch_tokens": "tokens",
    "evaluate.every": "steps",
    "evaluate.max_prompts": "prompts",
    "evaluate.max_new_tokens": "tokens",
    "evaluate.patience": "evaluations",
    "checkpoint.every": "steps",
    "checkpoint.keep_last": "checkpoints",
    "parallel.processes": "processes",
    "parallel.fewest_processes": "processes",
    "parallel.sequence": "processes",
    "parallel.timeout_minutes": "minutes",
}
"""What a number counts, as a key of the words."""
GROUPS = ("model", "data", "training", "adapter", "preference", "optimizer", "evaluate", "checkpoint", "parallel",
          "tracking", "run")  # fmt: skip
"""The groups in the order of the form; ``run`` has the settings without a group."""
SOURCE_FIELDS = ("path", "format", "split", "rows", "repeat", "weight", "columns", "subset", "revision", "encoding",
                 "delimiter", "sheet")  # fmt: skip
_LINES = frozenset({"evaluate.samples", "model.template"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form.

    Attributes:
        name: The setting's dotted name.
        group: Its group in the form.
        kind: How it is filled in.
        choices: Words to choose from; empty if anything may be written.
        default: The default as a field shows it; empty for none.
        is_optional: Whether it can be empty, so that the run decides.
        about: What it means, in English.
        unit: Key of what it counts, or empty.
        is_main: Whether it is open.
        can_be_swept: Whether it can take several values.
    """

    name: str
    group: str
    kind: Kind
    choices: tuple[str, ...]
    default: str
    is_optional: bool
    about: str
    unit: str
    is_main: bool
    can_be_swept: bool

    @property
    def label(self) -> str:
        """The name without its group."""
        return self.name.rpartition(".")[2]

    @property
    def key(self) -> str:
        """The name as the key of a text."""
        return self.name.replace(".", "_")


@cache
def fields() -> dict[str, Field]:
    """Return the fields of the form by the names of their settings.

    Example:
        >>> fields()["optimizer.lr"].kind, fields()["optimizer.schedule"].choices
        ('number', ('constant', 'linear', 'cosine', 'wsd'))
    """
    found = {}
    for group, section in Recipe.model_fields.items():
        kind = section.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            for name, info in kind.model_fields.items():
                found[f"{group}.{name}"] = _field(f"{group}.{name}", group, info)
        elif group != "sweep":
            found[group] = _field(group, "run", section)
    return {name: field for name, field in found.items() if name not in NO_FIELD}


@cache
def source_fields() -> dict[str, Field]:
    """Return the fields of one source of data."""
    return {name: _field("source." + name, "source", Source.model_fields[name]) for name in SOURCE_FIELDS}


def _field(name: str, group: str, info: Any) -> Field:
    kinds, choices = plain_kinds(info.annotation), choices_in(info.annotation)
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    return Field(
        name=name,
        group=group,
        kind=_kind(name, info.annotation, kinds),
        choices=choices if not kinds & {int, float, str, list} else (),
        default=default_text(default),
        is_optional=type(None) in kinds,
        about=info.description or "",
        unit=UNITS.get(name, ""),
        is_main=name in MAIN,
        can_be_swept=name not in NOT_SWEPT,
    )


def _kind(name: str, annotation: Any, kinds: set[Any]) -> Kind:
    if name in ("data.sources", "data.heldout"):
        return "sources"
    if dict in kinds:
        return "mapping"
    if name in _LINES:
        return "lines"
    if list in kinds or tuple in kinds:
        return "names"
    if bool in kinds:
        return "switch"
    if kinds & {int, float}:
        return "number"
    return "choice" if choices_in(annotation) and str not in kinds else "text"


def choices_in(annotation: Any) -> tuple[str, ...]:
    """Return the words of the `Literal` in an annotation.

    Example:
        >>> choices_in(Literal["a", "b"] | None), choices_in(list[Literal["x"]]), choices_in(int)
        (('a', 'b'), ('x',), ())
    """
    origin = get_origin(annotation)
    if origin is Literal:
        return tuple(str(word) for word in get_args(annotation))
    if origin in (Union, UnionType, Annotated, list):
        return tuple(word for part in get_args(annotation) for word in choices_in(part))
    return ()


def default_text(value: Any) -> str:
    """Return a default as a field shows it."""
    if value is None or value in ([], {}, ()):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(default_text(item) for item in value)
    return str(value)


def has_effect(name: str, flat: Mapping[str, Any]) -> bool:
    """Return whether a setting has an effect beside the others of a recipe.

    Args:
        name: The setting.
        flat: The settings of the recipe by their dotted names; its sweep as ``sweep``.

    Example:
        >>> has_effect("adapter.rank", {}), has_effect("adapter.rank", {"adapter.kind": "lora"})
        (False, True)
        >>> has_effect("preference.margin", {"sweep": {"training.objective": ["dpo", "simpo"]}})
        True
    """
    rules = _NEEDS.get(name) or _NEEDS.get(f"{name.partition('.')[0]}.*", ())
    return all(bool(_values(key, flat) & words) for key, words in rules)


_COMPARING = frozenset({"dpo", "ipo", "simpo", "orpo", "kto"})
_LORA: tuple[tuple[str, frozenset[str]], ...] = (("adapter.kind", frozenset({"lora"})),)
_NEEDS: Mapping[str, tuple[tuple[str, frozenset[str]], ...]] = {
    "adapter.*": _LORA,
    "adapter.kind": (("", frozenset({""})),),
    "model.quantize": _LORA,
    "preference.*": (("training.objective", _COMPARING),),
    "preference.margin": (("training.objective", frozenset({"simpo"})),),
    "preference.length_normalized": (("training.objective", frozenset({"dpo"})),),
    "preference.desirable_weight": (("training.objective", frozenset({"kto"})),),
    "preference.undesirable_weight": (("training.objective", frozenset({"kto"})),),
    "data.rejected": (("training.objective", _COMPARING - {"kto"}),),
    "training.loss": (("training.objective", frozenset({"sft"})),),
    "optimizer.momentum": (("optimizer.name", frozenset({"muon"})),),
}
"""What a setting needs to have an effect: another setting, and the values of it that will do."""


def _values(name: str, flat: Mapping[str, Any]) -> set[str]:
    """Return the words that a setting has in the runs of a recipe."""
    if not name:
        return {""}
    swept = sweep_in(flat).get(name)
    values = swept if isinstance(swept, list) else [flat.get(name, fields()[name].default)]
    return {str(value) for value in values}
