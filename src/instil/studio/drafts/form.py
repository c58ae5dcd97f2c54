"""The form of a draft: what each field shows, and which settings an answer of the form changes.

Why by comparison: the browser sends all fields with the text that they were made from. What differs from that text was
changed by a person. So no field has to say that it was touched, and the form works without a script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from instil.studio.drafts.checks import Checked, Problem
from instil.studio.drafts.fields import GROUPS, Field, fields, has_effect, source_fields
from instil.studio.drafts.text import REMOVED, flat_settings, sweep_in
from instil.studio.drafts.values import (
    Swept,
    as_sources,
    source_texts,
    sources_of,
    swept_of,
    swept_text,
    text_of,
    value_of,
)

LISTS = ("data.sources", "data.heldout")
SWEEP_OPTIONS = ("best_by", "direction", "search", "trials")
MOST_ROWS = 200
"""Sources or swept settings that a form may have."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A field with its value.

    Attributes:
        field: The field.
        text: What it shows.
        is_set: Whether the recipe sets it.
        swept: The values that a sweep gives it, as text; or empty.
        has_effect: Whether it has an effect beside the other settings.
        problems: What is wrong with it.
    """

    field: Field
    text: str
    is_set: bool
    swept: str
    has_effect: bool
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the form.

    Attributes:
        name: Its name.
        main: Fields that are open.
        more: The others.
    """

    name: str
    main: tuple[Shown, ...]
    more: tuple[Shown, ...]

    @property
    def num_set(self) -> int:
        """Number of settings under "more" that the recipe sets."""
        return sum(shown.is_set for shown in self.more)

    @property
    def needs_look(self) -> bool:
        """Whether something under "more" is set or wrong."""
        return any(shown.is_set or shown.problems for shown in self.more)


def groups_of(settings: Mapping[str, Any], checked: Checked) -> list[Group]:
    """Return the groups of the form; a setting without an effect is left out unless the recipe sets it."""
    flat = flat_settings(settings)
    swept = sweep_in(flat)
    every = []
    for name, field in fields().items():
        value, values = flat.get(name, REMOVED), swept.get(name, REMOVED)
        is_set, effect = value is not REMOVED or values is not REMOVED, has_effect(name, flat)
        if effect or is_set or checked.of(name):
            every.append(
                Shown(
                    field,
                    shown_text(field, value, values),
                    is_set,
                    "" if values is REMOVED else swept_text(values),
                    effect,
                    tuple(checked.of(name)),
                )
            )
    groups = [
        Group(
            group,
            tuple(shown for shown in every if shown.field.group == group and shown.field.is_main),
            tuple(shown for shown in every if shown.field.group == group and not shown.field.is_main),
        )
        for group in GROUPS
    ]
    return [group for group in groups if group.main or group.more]


def shown_text(field: Field, value: Any, values: Any = REMOVED) -> str:
    """Return what a field shows: its value, of a number the values of a sweep, of a choice at least the default."""
    if values is not REMOVED and field.kind == "number":
        return swept_text(values)
    text = text_of(field, value)
    return field.default if not text and field.kind in ("choice", "switch") else text


def source_rows(settings: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    """Return the texts of the fields of each source, and of an empty one behind them."""
    rows = [source_texts(source) for source in as_sources(flat_settings(settings).get(name, REMOVED))]
    return [*(_with_defaults(row) for row in rows), _with_defaults({})]


def _with_defaults(row: Mapping[str, str]) -> dict[str, str]:
    return {
        name: row.get(name) or (field.default if field.kind in ("choice", "switch") else "")
        for name, field in source_fields().items()
    }


def sweep_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the swept settings with their values as text, and an empty one behind them."""
    swept = sweep_in(flat_settings(settings))
    return [*((name, swept_text(value)) for name, value in swept.items() if name not in SWEEP_OPTIONS), ("", "")]


def sweep_options(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return how the runs of a sweep are chosen and compared, as text."""
    swept = sweep_in(flat_settings(settings))
    return {name: "" if swept.get(name) is None else str(swept[name]) for name in SWEEP_OPTIONS}


def changes_in(form: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an answer of the form changes.

    Args:
        form: The fields as the browser sent them: ``f:NAME``, ``s:NAME:NUMBER:KEY``, ``w:NUMBER:name``.
        settings: The settings that the form was made from.

    Returns:
        New values by dotted names; `REMOVED` for a setting to leave out. ``sweep`` is whole.
    """
    flat = flat_settings(settings)
    before = sweep_in(flat)
    sweep, changes = _sweep_of(form, settings), {}
    for name, field in fields().items():
        sent = form.get(f"f:{name}")
        old, values = flat.get(name, REMOVED), before.get(name, REMOVED)
        if sent is None or field.kind == "sources" or _same(sent, shown_text(field, old, values)):
            continue
        new = value_of(field, sent)
        if isinstance(new, Swept) and field.can_be_swept:
            sweep[name] = new.values
            new = REMOVED
        elif isinstance(new, Swept):
            new = sent
        elif field.kind == "number":
            sweep.pop(name, None)
        if new is not REMOVED or old is not REMOVED:
            changes[name] = new
    for name in LISTS:
        changes |= _sources_in(form, name, flat)
    if sweep != before:
        changes["sweep"] = sweep or REMOVED
    return changes


def _sources_in(form: Mapping[str, str], name: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    old = as_sources(flat.get(name, REMOVED))
    shown = [*(_with_defaults(source_texts(source)) for source in old), _with_defaults({})]
    rows, is_changed = [], False
    for number in range(MOST_ROWS):
        sent = {key: form[f"s:{name}:{number}:{key}"] for key in source_fields() if f"s:{name}:{number}:{key}" in form}
        if not sent:
            break
        was = shown[number] if number < len(shown) else shown[-1]
        differs = {key: text for key, text in sent.items() if not _same(text, was[key])}
        is_changed = is_changed or bool(differs)
        before = old[number] if number < len(old) else {}
        kept = {"path": sent.get("path", ""), **differs}
        rows.append((before if isinstance(before, Mapping) else {}, kept))
    if not is_changed:
        return {}
    new = sources_of(rows, source_fields())
    return {} if new is REMOVED and not old else {name: new}


def _sweep_of(form: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sweep of an answer of the form."""
    before = sweep_in(flat_settings(settings))
    if "w:0:name" not in form:
        return before
    rows, options = sweep_rows(settings), sweep_options(settings)
    sweep: dict[str, Any] = {}
    for number in range(MOST_ROWS):
        name, text = form.get(f"w:{number}:name"), form.get(f"w:{number}:values", "")
        if name is None:
            break
        if number < len(rows) and rows[number][0] == name and _same(text, rows[number][1]) and name:
            sweep[name] = before[name]
        elif name and (values := swept_of(fields().get(name), text)) is not REMOVED:
            sweep[name] = values
    for name in SWEEP_OPTIONS:
        text = form.get(f"w:{name}", "").strip()
        if _same(text, options[name]):
            sweep |= {name: before[name]} if name in before else {}
        elif text:
            sweep[name] = int(text) if name == "trials" and text.isdecimal() else text
    return sweep


def _same(one: str, two: str) -> bool:
    """Return whether two texts are the same for a browser, which ends lines in its own way."""
    return one.replace("\r\n", "\n").strip() == two.replace("\r\n", "\n").strip()
