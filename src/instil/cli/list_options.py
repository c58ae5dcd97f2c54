"""Lists on the command line, for every list setting of the recipe and every list option of a verb.

Written alike are ``--adapter.targets q_proj v_proj``, the option twice, ``q_proj,v_proj`` and ``'["q_proj", "v_proj"]'``.
They all become the option repeated once per value, which is what cyclopts reads.

Why: a comma separates names, but it may be a part of a path or of a text. A path is cut only if it does not exist and
all of its parts do; prompts (`evaluate.samples`) are never cut.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args, get_origin

from instil.errors import RecipeError

Items: TypeAlias = Literal["names", "joined", "numbers", "paths", "texts"]
"""What a list holds: it decides whether a comma separates two items. Names are `joined` where one text is allowed too."""
WITH_SETTINGS = ("train", "plan", "prepare", "inspect")
"""The verbs that take settings of the recipe. Each has one positional argument."""
_OTHER: Mapping[str, Mapping[str, Items]] = {"evaluate": {"--task": "names", "--tasks": "names", "--harness": "names"}}
_TEXTS = frozenset({"evaluate.samples"})


def list_settings() -> dict[str, Items]:
    """Return every list setting of the recipe, named with dots, and what it holds.

    Example:
        >>> list_settings()["adapter.targets"], list_settings()["data.sources"]
        ('joined', 'paths')
    """
    from instil.recipe import Recipe, Settings, Source  # Why: pydantic would slow verbs without settings

    found: dict[str, Items] = {}
    for group, section in Recipe.model_fields.items():
        kind = section.annotation
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            continue
        for name, field in kind.model_fields.items():
            lists = [part for part in _parts(field.annotation) if get_origin(part) in (list, tuple)]
            if not lists:
                continue
            key = f"{group}.{name}"
            if get_origin(lists[0]) is tuple:
                found[key] = "numbers"
            else:
                one_name: Items = "names" if lists[0] is field.annotation else "joined"
                found[key] = "texts" if key in _TEXTS else "paths" if Source in get_args(lists[0]) else one_name
    return found


def _parts(annotation: Any) -> tuple[Any, ...]:
    return (annotation,) if get_origin(annotation) in (list, tuple) else (annotation, *get_args(annotation))


def with_lists(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with every list option repeated once per value.

    Raises:
        RecipeError: If a value begins like a list of JSON or YAML and is none.

    Example:
        >>> with_lists(["train", "r.yaml", "--adapter.targets", "q_proj", "v_proj", "--training.freeze", "a,b"])[2:]
        ['--adapter.targets=q_proj,v_proj', '--training.freeze=a', '--training.freeze=b']
    """
    verb = words[0] if words else ""
    if verb in WITH_SETTINGS and any(word.startswith("--") and "." in word for word in words):
        options = {f"--{name}": items for name, items in list_settings().items()}
    else:
        options = dict(_OTHER.get(verb, {}))
    if not options or "--help" in words:
        return list(words)
    at = _positional(words, options) if verb in WITH_SETTINGS else None
    before = [] if at is None else [words[at]]
    out: list[str] = []
    lists: dict[str, list[str]] = {}
    rest = [word for number, word in enumerate(words) if number not in (0, at)]
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name not in options:
            out.append(word)
            continue
        values = [value] if equals else []
        while not equals and rest and (is_value(rest[0])):
            values.append(rest.pop(0))
        if name not in lists:
            out.append(name)  # all values of an option stand where its first one stood
        lists.setdefault(name, []).extend(values)
    repeated = [[word] if word not in lists else _repeated(word, lists[word], options[word]) for word in out]
    return [verb, *before, *(word for part in repeated for word in part)]


def is_value(word: str) -> bool:
    """Return whether a word is a value: no option, or ``-`` for standard input, or a negative number."""
    return not word.startswith("-") or word == "-" or word[1:2].isdigit()


def _positional(words: Sequence[str], options: Mapping[str, Items]) -> int | None:
    """Return where the recipe or the data stands, so that no list before it takes it for a value."""
    if len(words) > 1 and is_value(words[1]):
        return 1
    bare = [
        number
        for number in range(2, len(words))
        if is_value(words[number]) and not (words[number - 1].startswith("--") and words[number - 1] not in options)
    ]
    from instil.recipe.shipped import recipe_file  # Why: pydantic would slow the first line of every verb

    recipes = [number for number in bare if recipe_file(words[number]) is not None]
    if recipes:
        return recipes[0]
    # The last word is data where the list before it holds no paths, and so cannot mean it.
    option = next((words[number] for number in range(len(words) - 1, 0, -1) if words[number].startswith("--")), "")
    if not bare or bare[-1] != len(words) - 1 or options.get(option) == "paths":
        return None
    return bare[-1] if words[0] == "inspect" or _is_there(words[-1]) else None


def _repeated(option: str, values: Sequence[str], items: Items) -> list[str]:
    """Return an option once per item of its values; the option for an empty list if there is none."""
    if not values:
        return [option]  # cyclopts reports the missing value
    found = [item for value in values for item in _items(option, value, items)]
    if not found:
        group, _, name = option.rpartition(".")
        return [f"{group}.empty-{name}" if group else f"--empty-{name.removeprefix('--')}"]
    if items == "joined":
        return [f"{option}={','.join(found)}"]
    return [option, *found] if items == "numbers" else [f"{option}={item}" for item in found]


def _items(option: str, value: str, items: Items) -> list[str]:
    """Return the items that one word holds."""
    if value.startswith("[") and value.endswith("]"):
        listed = _parsed(value, is_strict=items in ("paths", "texts"))
        if listed is not None:
            return [item if isinstance(item, str) else json.dumps(item) for item in listed]
        if items not in ("paths", "texts"):
            raise RecipeError(
                f"{option.removeprefix('--')}: found {value!r}, which is no list. Expected one such as "
                '\'["a", "b"]\', or the values with spaces between them. Fix it.'
            )
    if items == "texts" or "," not in value or (items == "paths" and not _are_paths(value)):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _parsed(value: str, *, is_strict: bool) -> list[Any] | None:
    """Return a list of YAML or JSON; with `is_strict` of JSON alone, because a glob such as ``[ab]`` is YAML too."""
    import yaml  # Why: needed only where a list is typed so

    try:
        listed = json.loads(value) if is_strict else yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        return None
    return listed if isinstance(listed, list) else None


def _are_paths(value: str) -> bool:
    """Return whether a text with commas is several paths: it is none itself, and each part is one."""
    if _is_there(value):
        return False
    parts = [part.strip() for part in value.split(",")]
    return all(part and (part == "-" or _is_there(part)) for part in parts)


def _is_there(path: str) -> bool:
    """Return whether a path or a pattern names something. A list of files may be longer than any name."""
    return os.path.exists(os.path.expanduser(path)) or bool(glob.glob(path))
