"""``--model``, ``--data`` and ``--adapter``: they mean the same for every verb.

Verbs with settings of a recipe have them as short forms, as the recipe has: ``--model demo`` is ``--model.name demo``.
For all others they name what stands first after the verb: ``instil chat --model demo`` is ``instil chat demo``.
"""

from __future__ import annotations

from collections.abc import Sequence

from instil.errors import RecipeError

WITH_RECIPE = ("train", "plan", "prepare")
"""The verbs whose options are all settings of a recipe."""
FIRST = {
    "chat": "--model",
    "generate": "--model",
    "evaluate": "--model",
    "serve": "--model",
    "export": "--model",
    "convert": "--data",
}
"""The option that names what stands first after a verb."""


def with_short_options(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with every short option written as its verb takes it.

    Raises:
        RecipeError: If such an option has no value, or occurs twice.

    Example:
        >>> with_short_options(["train", "rows.jsonl", "--model", "demo", "--adapter=lora"])
        ['train', 'rows.jsonl', '--model.name', 'demo', '--adapter.kind=lora']
        >>> with_short_options(["export", "out", "--model", "runs/demo"])
        ['export', 'runs/demo', 'out']
    """
    verb = words[0] if words else ""
    if verb in WITH_RECIPE or verb == "inspect":  # inspect has settings of `data` alone; its --model is its own
        return [verb, *(_in_full(word, verb) for word in words[1:])]
    option = FIRST.get(verb)
    if option is None or "--help" in words:
        return list(words)
    return [verb, *_with_first(verb, option, words[1:])]


def _in_full(word: str, verb: str) -> str:
    """Return an option such as ``--model`` as the setting that it means."""
    # Why: without pydantic's import a verb without settings starts faster; this runs for verbs with settings only.
    from instil.recipe.merging import SHORT_FORMS

    name, equals, value = word.partition("=")
    group = name.removeprefix("--")
    if not name.startswith("--") or group not in SHORT_FORMS or (verb == "inspect" and group != "data"):
        return word
    return f"{name}.{SHORT_FORMS[group]}{equals}{value}"


def _with_first(verb: str, option: str, words: Sequence[str]) -> list[str]:
    """Return words in which the value of an option stands first, where the verb expects it."""
    rest, values = list(words), []
    at = next((number for number, word in enumerate(rest) if word.partition("=")[0] == option), None)
    while at is not None:
        _, equals, value = rest.pop(at).partition("=")
        if not equals:
            if at >= len(rest) or (rest[at].startswith("-") and rest[at] != "-"):
                raise RecipeError(f"instil {verb}: {option} has no value. Expected one after it. Add it.")
            value = rest.pop(at)
        values.append(value)
        at = next((number for number, word in enumerate(rest) if word.partition("=")[0] == option), None)
    if len(values) > 1:
        raise RecipeError(f"instil {verb}: {option} occurs twice. Expected it once. Leave one of them out.")
    return [*values, *rest]
