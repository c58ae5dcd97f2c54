"""What all groups of settings share: the kinds of their values, and how they are checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from instil.errors import RunError
from instil.files import home_path, is_file_name
from instil.remote.urls import clean_url, is_url


def _number(value: object) -> object:
    """Return the number that a text spells; YAML 1.1 reads ``2e-5`` as text because it has no dot."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _in_home(value: str) -> str:
    """Replace ``~`` at the start of a path, and clear an address of secrets. What holds a brace is a template."""
    if is_url(value):
        return clean_url(value)
    if not is_file_name(value):
        raise ValueError("input should be text without zero bytes and halves of surrogate pairs")
    if not value.startswith("~") or ("{" in value and not value.startswith("~/")):
        return value
    try:
        return str(home_path(value))
    except RunError as error:
        raise ValueError(str(error).removeprefix(f"{value}: ")) from None


def _text_of_path(value: object) -> object:
    """Return the text of a path that a Python program passes."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


PathText = Annotated[str, BeforeValidator(_text_of_path), AfterValidator(_in_home)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Decay = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]
LARGEST_SEED = 2**63 - 1
MOST_THREADS = 1024
LONGEST_WAIT = 30 * 24 * 60


def _kinds(annotation: Any) -> set[Any]:
    """Return all types in an annotation."""
    return {annotation}.union(*(_kinds(part) for part in get_args(annotation)))


def names_a_path(info: FieldInfo) -> bool:
    """Return whether a setting, or a part of it, is a `PathText`."""

    def parts(annotation: Any) -> Iterator[Any]:
        yield annotation
        for part in get_args(annotation):
            yield from parts(part)

    return any(getattr(part, "func", None) is _in_home for part in (*info.metadata, *parts(info.annotation)))


class Settings(BaseModel):
    """A group of settings: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _a_truth_value_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name is not None:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if bool not in kinds and not kinds.isdisjoint((int, float)):
                raise ValueError("input should be a number")
        return value


def unless_empty(check: Callable[[str], str]) -> Callable[[str | None], str | None]:
    """Return a validator of a setting that may be empty."""
    return lambda value: value if value is None else check(value)
