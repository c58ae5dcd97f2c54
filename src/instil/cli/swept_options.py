"""Several values for one setting on the command line: ``--optimizer.lr 1e-4,3e-4,1e-3`` makes a run of each.

Written alike are values with commas, the option repeated, a list of JSON, and for a search a range ``1e-5..1e-3``. They
all become one ``--sweep`` with a mapping of JSON, as a recipe's ``sweep:`` is.

Why: settings that are lists by nature keep their meaning (see `list_options`); of them a list of lists is swept. A comma
may be a part of a path, so a text that names an existing path is one value.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from instil.cli.list_options import WITH_SETTINGS, is_value, list_settings
from instil.errors import RecipeError

SWEEP = "--sweep"
RUNS_SWEEPS = ("train", "plan")
"""The verbs that take several values."""
_TOP_LEVEL = frozenset({"--output", "--threads", "--device", SWEEP})
"""Options of settings without a group."""
_ONE_TEXT = frozenset({"data.delimiter", "data.sheet", "output", "tracking.name", "tracking.project", "data.store"})
"""Settings whose texts may hold a comma that separates nothing."""
_SWITCH = re.compile(r"(true|false)(\s*,\s*(true|false))*", re.IGNORECASE)
_RANGE = re.compile(r"[-+.\deE]+\.\.[-+.\deE]+(:(log|linear))?", re.IGNORECASE)


def with_sweeps(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with every setting that has several values moved into one ``--sweep``.

    Raises:
        RecipeError: If the verb takes one value of each setting, or a value between two commas is missing.

    Example:
        >>> with_sweeps(["train", "r.yaml", "--optimizer.lr", "1e-4,3e-4", "--adapter.rank", "8"])
        ['train', 'r.yaml', '--adapter.rank', '8', '--sweep={"optimizer.lr": [0.0001, 0.0003]}']
    """
    verb = words[0] if words else ""
    has_settings = any(word.startswith("--") and ("." in word or word.split("=")[0] in _TOP_LEVEL) for word in words)
    if verb not in WITH_SETTINGS or not has_settings or "--help" in words:
        return list(words)
    options = _Options()
    out: list[str] = [verb]
    places: dict[str, list[int]] = {}
    values: dict[str, list[str]] = {}
    typed: dict[str, Any] = {}
    at = 1
    while at < len(words):
        option, equals, value = words[at].partition("=")
        name = options.setting_of(option)
        if not equals and at + 1 < len(words) and (option == SWEEP or options.takes(name, words[at + 1])):
            value, taken = words[at + 1], words[at : at + 2]
        else:
            taken = words[at : at + 1]
        at += len(taken)
        if option == SWEEP and (mapping := _mapping(value)) is not None:
            typed |= mapping
            continue
        if name is not None and (equals or len(taken) > 1):
            places.setdefault(name, []).extend(range(len(out), len(out) + len(taken)))
            values.setdefault(name, []).append(value)
        out.extend(taken)
    swept = {name: found for name, texts in values.items() if (found := options.several(name, texts)) is not None}
    if not swept and not typed:
        return out
    if verb not in RUNS_SWEEPS:
        name = next(iter({**swept, **typed}))
        raise RecipeError(
            f"{name}: found several values. Expected one: only train and plan take several. Leave the others out."
        )
    gone = {place for name in swept for place in places[name]}
    kept = [word for number, word in enumerate(out) if number not in gone]
    return [*kept, f"{SWEEP}={json.dumps({**typed, **swept}, ensure_ascii=False)}"]


class _Options:
    """The settings of a recipe as options, and how the text of each is divided into values."""

    def __init__(self) -> None:
        from instil.sweeps.space import plain_kinds, setting_type  # Why: pydantic would slow verbs without settings

        self._kinds_of = plain_kinds
        self._type_of = setting_type
        self._lists = list_settings()

    def setting_of(self, option: str) -> str | None:
        """Return the setting of an option, or None if it is that of none."""
        name = option.removeprefix(f"{SWEEP}.").removeprefix("--") if option.startswith("--") else ""
        kind = self._type_of(name) if name else None
        return None if kind is None or dict in self._kinds_of(kind) else name

    def takes(self, name: str | None, word: str) -> bool:
        """Return True if an option takes the word after it."""
        if name is None or not is_value(word):
            return False
        is_switch = bool in self._kinds_of(self._type_of(name))
        return not is_switch or _SWITCH.fullmatch(word) is not None or _listed(word) is not None

    def several(self, name: str, texts: Sequence[str]) -> Any:
        """Return the values or the range that the texts of an option hold, or None if they are one value."""
        if name in self._lists:
            listed = _listed(texts[0]) if len(texts) == 1 else None
            return listed if listed and all(isinstance(item, list) for item in listed) else None
        kinds = self._kinds_of(self._type_of(name))
        if len(texts) == 1 and kinds & {int, float} and _RANGE.fullmatch(texts[0]):
            return texts[0]
        values = [value for text in texts for value in self._values(name, text, kinds)]
        is_list = len(texts) == 1 and _listed(texts[0]) is not None and not os.path.exists(texts[0])
        return values if len(values) > 1 or is_list else None

    def _values(self, name: str, text: str, kinds: set[Any]) -> list[Any]:
        is_text = str in kinds
        if is_text and (name in _ONE_TEXT or os.path.exists(os.path.expanduser(text))):
            return [text]
        listed = _listed(text)
        if listed is not None:
            return listed
        if "," not in text:
            return [_plain(text, kinds)]
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise RecipeError(
                f"{name}: found {text!r}, in which a value is empty. Expected values with commas between them. Fix it."
            )
        return [_plain(part, kinds) for part in parts]


def _plain(text: str, kinds: set[Any]) -> Any:
    """Return the value that a text spells for a setting of these kinds; the text itself if the recipe has to judge it."""
    if str in kinds:
        return text
    words: dict[str, bool | None] = {"true": True, "false": False} if bool in kinds else {}
    words |= {"none": None, "null": None} if type(None) in kinds else {}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        if kind in kinds or (kind is int and float in kinds):
            with contextlib.suppress(ValueError):
                return kind(text)
    return text


def _listed(text: str) -> list[Any] | None:
    """Return a list of JSON or YAML, or None if a text is none."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    import yaml  # Why: needed only where a list is typed so

    try:
        listed = json.loads(text)
    except ValueError:
        try:
            listed = yaml.safe_load(text)
        except yaml.YAMLError:
            return None
    return listed if isinstance(listed, list) else None


def _mapping(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
