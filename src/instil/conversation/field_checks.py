"""Checks the values that a program builds a record of, so that a wrong one is a plain error where it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from reprlib import Repr

from instil.errors import DataError

TEMPLATE_INPUTS = ("messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
"""What a template or transformers' `apply_chat_template` is given beside the variables, so that no variable is so named."""
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def wrong(field: str, value: object, expected: str, remedy: str = "Correct the argument.") -> DataError:
    """Return the error for a field of a record that has a wrong value.

    Example:
        >>> str(wrong("Message.name", 5, "text or None"))
        'Message.name: found 5, which is of type int. Expected text or None. Correct the argument.'
    """
    kind = "" if value is None else f", which is of type {type(value).__name__}"
    return DataError(f"{field}: found {shown(value)}{kind}. Expected {expected}. {remedy}")


def shown(value: object) -> str:
    """Return a value as it is written in Python, cut to a few words; an object's own mistakes do not matter.

    Example:
        >>> shown("gpt"), shown(list(range(100)))
        ("'gpt'", '[0, 1, 2, 3, 4, 5, ...]')
    """
    return _SHORT.repr(value)


def check_text(field: str, value: object, *, optional: bool = True) -> None:
    """Raise if a value is neither text nor, where that is allowed, None."""
    if not isinstance(value, str) and (value is not None or not optional):
        raise wrong(field, value, "text or None" if optional else "text")


def check_number(field: str, value: object, *, optional: bool = False) -> None:
    """Raise if a value is neither a whole number nor, where that is allowed, None."""
    if (not isinstance(value, Integral) or isinstance(value, bool)) and (value is not None or not optional):
        raise wrong(field, value, "a whole number or None" if optional else "a whole number")


def check_keys(field: str, value: object, expected: str = "a mapping") -> None:
    """Raise if a value is no mapping with text as its keys."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise wrong(field, value, expected)
    for key in value:
        if not isinstance(key, str):
            raise wrong(field, key, "text as each key")


def check_weight(field: str, value: object) -> None:
    """Raise if a value is no number that can be the weight of a loss; True and False are 1 and 0."""
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    if not 0 <= number < math.inf:
        raise wrong(field, value, "a number of at least 0")


def template_input_in(variables: Mapping[str, object]) -> str | None:
    """Return the first template variable that would replace what the template is given, or None.

    Example:
        >>> template_input_in({"enable_thinking": False, "tools": []}), template_input_in({"documents": []})
        ('tools', None)
    """
    return next((name for name in TEMPLATE_INPUTS if name in variables), None)
