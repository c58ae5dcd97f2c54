"""The YAML of a recipe, changed in one place: comments and the order of all else stay.

Why by lines: a library that keeps comments would be one more package, and a recipe is two levels deep. What was written
is read again; a change that did not come out as it should (anchors, for example) gives a text written anew, which
`Edit.is_rewritten` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml

from instil.errors import RecipeError
from instil.recipe import nested_settings
from instil.recipe.merging import SHORT_FORMS
from instil.recipe.sweeping import flat_sweep
from instil.recipe.yaml_file import compose, read_recipe_text

WIDTH = 110


class Removed(Enum):
    """The value of a setting that is to be left out."""

    REMOVED = "removed"


REMOVED = Removed.REMOVED


@dataclass(frozen=True, slots=True)
class Edit:
    """A changed text.

    Attributes:
        text: The text.
        is_rewritten: Whether it was written anew, without comments.
    """

    text: str
    is_rewritten: bool = False


def settings_in(text: str) -> dict[str, Any]:
    r"""Return the settings of a text, nested, with short forms in full and a sweep with dotted names.

    Raises:
        RecipeError: If it is no YAML mapping, or has a setting twice.

    Example:
        >>> settings_in("model: demo\noptimizer:\n  lr: 1e-4\n")
        {'model': {'name': 'demo'}, 'optimizer': {'lr': '1e-4'}}
    """
    nested = nested_settings(read_recipe_text(text, source="YAML"))
    if isinstance(nested.get("sweep"), Mapping):
        nested["sweep"] = flat_sweep(nested["sweep"])
    return {group: value for group, value in nested.items() if value is not None and value != {}}


def flat_settings(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their dotted names; of a group that is no mapping the group itself.

    Example:
        >>> flat_settings({"model": {"name": "demo"}, "output": "runs/a", "sweep": {"optimizer.lr": [1]}})
        {'model.name': 'demo', 'output': 'runs/a', 'sweep': {'optimizer.lr': [1]}}
    """
    flat: dict[str, Any] = {}
    for group, value in nested.items():
        if isinstance(value, Mapping) and group != "sweep":
            flat |= {f"{group}.{name}": inner for name, inner in value.items()}
        else:
            flat[group] = value
    return flat


def sweep_in(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the swept settings with their values, and how they are searched; empty without a sweep."""
    sweep = flat.get("sweep")
    return dict(sweep) if isinstance(sweep, Mapping) else {}


def edited(text: str, changes: Mapping[str, Any]) -> Edit:
    r"""Return a text with some settings changed.

    Args:
        text: YAML that can be read.
        changes: New values by dotted names; `REMOVED` leaves a setting out.

    Raises:
        RecipeError: If the text cannot be read.

    Example:
        >>> edited("optimizer:\n  lr: 1e-4  # tried\n", {"optimizer.lr": "2e-4"}).text
        'optimizer:\n  lr: 2e-4  # tried\n'
    """
    rewritten = False
    for name, value in changes.items():
        wanted = _changed(settings_in(text), name, value)
        new = _with_setting(text, name, value)
        if _read_or_none(new) != wanted:
            new, rewritten = _dumped(wanted), True
        text = new
    return Edit(text, rewritten)


def _changed(nested: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return settings with one changed, as `settings_in` has them."""
    group, dot, last = name.partition(".")
    inside = dict(nested[group]) if dot and isinstance(nested.get(group), Mapping) else {}
    holder, key = (inside, last) if dot else (nested, group)
    holder.pop(key, None) if value is REMOVED else holder.__setitem__(key, value)
    if dot:
        nested[group] = inside
    return {group: value for group, value in nested.items() if value is not None and value != {}}


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper, which writes equal values twice rather than an anchor that nobody would edit."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(value: Any, **options: Any) -> str:
    """Return a value as YAML, in the order and the letters that it has."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options)
    return text


def _read_or_none(text: str) -> dict[str, Any] | None:
    try:
        return settings_in(text)
    except RecipeError:
        return None


def _dumped(settings: Mapping[str, Any], *, indent: int = 0) -> str:
    style = None if "sweep" in settings else False  # the values of a sweep stand on one line
    text = dump(dict(settings), width=WIDTH, default_flow_style=style)
    return "".join(f"{' ' * indent}{line}\n" for line in text.splitlines())


def _inline(value: Any) -> str | None:
    """Return a value as it stands behind its key on one line; None if it needs several."""
    if isinstance(value, Mapping) and value:
        return None
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return None
    style = '"' if isinstance(value, str) and "\n" in value else None
    text = dump(value, default_flow_style=True, default_style=style, width=float("inf"))
    text = text.removesuffix("\n").removesuffix("\n...").rstrip("\n")
    return None if "\n" in text else text


def _with_setting(text: str, name: str, value: Any) -> str:
    if text and not text.endswith("\n"):
        text += "\n"
    root = compose(text)
    group, dot, last = name.partition(".")
    if root is None:
        return text if value is REMOVED else text + _entry(name, value)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return _dumped(_changed(settings_in(text), name, value))
    entries = {key.value: (key, node) for key, node in root.value}
    if name in entries:
        return _replaced(text, *entries[name], value)
    if not dot or group not in entries:
        return text if value is REMOVED else text.rstrip("\n") + "\n" + _entry(name, value)
    key, node = entries[group]
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return _with_inner(text, key, node, last, value)
    if value is not REMOVED and isinstance(node, yaml.ScalarNode) and (opened := _opened(text, key, node)) != text:
        return _with_setting(opened, name, value) if node.value else opened.replace("\0", _entry(last, value, indent=2))
    inner = _changed(settings_in(text), name, value).get(group)
    return _replaced(text, key, node, REMOVED if inner is None else inner)


def _opened(text: str, key: yaml.Node, node: yaml.ScalarNode) -> str:
    """Return a text in which a group is a block: its short form in full, or a zero byte where an empty one begins.

    Args:
        text: The text.
        key: The group's key.
        node: What stands in the group's place, on one line.
    """
    lines = text.splitlines(keepends=True)
    number, (before, behind) = key.start_mark.line, (key.end_mark.column, node.start_mark.column)
    line = lines[number]
    if node.end_mark.line != number:
        return text
    if not node.value and node.style is None:
        return "".join([*lines[: number + 1], "\0", *lines[number + 1 :]])
    if key.value not in SHORT_FORMS or node.value in ("null", "~"):
        return text
    full = f"{line[:before]}:\n  {SHORT_FORMS[key.value]}: {line[behind:]}"
    return "".join([*lines[:number], full, *lines[number + 1 :]])


def _with_inner(text: str, group: yaml.Node, node: yaml.MappingNode, name: str, value: Any) -> str:
    """Change a setting of a group that is written as a block."""
    inner = {key.value: (key, found) for key, found in node.value}
    if name in inner:
        if value is REMOVED and len(inner) == 1:
            return _replaced(text, group, node, REMOVED)
        return _replaced(text, *inner[name], value)
    if value is REMOVED:
        return text
    lines = text.splitlines(keepends=True)
    indent, at = node.value[0][0].start_mark.column, _last_line(node.value[-1][0], node.value[-1][1]) + 1
    return "".join([*lines[:at], _entry(name, value, indent=indent), *lines[at:]])


def _entry(name: str, value: Any, *, indent: int = 0) -> str:
    """Return the lines of a new setting; one with a dot is put into its group."""
    group, dot, last = name.partition(".")
    if dot:
        return f"{group}:\n{_entry(last, value, indent=2)}"
    inline = _inline(value)
    if inline is not None:
        return f"{' ' * indent}{name}: {inline}\n"
    return _dumped({name: value}, indent=indent)


def _replaced(text: str, key: yaml.Node, node: yaml.Node, value: Any) -> str:
    """Replace the value of a key, or leave both out; a comment behind a value on one line stays."""
    lines = text.splitlines(keepends=True)
    first, last, indent = key.start_mark.line, _last_line(key, node), key.start_mark.column
    if value is REMOVED:
        return "".join([*lines[:first], *lines[last + 1 :]])
    inline = _inline(value)
    if inline is not None and first == last and not (isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")):
        line = lines[first]
        start, end = node.start_mark.column, node.end_mark.column
        if isinstance(node, yaml.ScalarNode) and node.style is None and not node.value:  # `key:` alone
            start = end = key.end_mark.column + 1
        before = line[:start].rstrip() if start == end else line[:start]
        return "".join(
            [*lines[:first], f"{before}{' ' if start == end else ''}{inline}{line[end:]}", *lines[first + 1 :]]
        )
    return "".join([*lines[:first], _entry(str(key.value), value, indent=indent) if "." not in key.value else
                    _dumped({key.value: value}, indent=indent), *lines[last + 1 :]])  # fmt: skip


def _last_line(key: yaml.Node, node: yaml.Node) -> int:
    """Return the last line of an entry. The parser ends a block only where the next one begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(*last) if isinstance(last, tuple) else _last_line(last, last)
    if isinstance(node, yaml.ScalarNode) and node.style is None and not node.value:
        return int(key.end_mark.line)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return int(node.end_mark.line) - (1 if node.end_mark.column == 0 else 0)
    return int(node.end_mark.line)
