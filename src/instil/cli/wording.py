"""Words the errors of the command line: what was typed, what was expected, what to do. No error has cyclopts' words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast, get_args

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from instil.cli.list_options import WITH_SETTINGS
from instil.cli.options_elsewhere import meant_option
from instil.cli.short_options import FIRST
from instil.errors import RecipeError, nearest
from instil.setting_aliases import known_elsewhere, last_name

_KEY_VALUE = re.compile(r"\+{0,2}(?P<key>[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*)=(?P<value>.*)", re.DOTALL)
"""A setting as Hydra has it."""
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "Path": "a path"}


def describe(error: CycloptsError, verb: str, words: list[str]) -> str:
    """Return what is wrong with a command line. A wrong setting has the words of the recipe's error.

    Args:
        error: What cyclopts raised.
        verb: The verb.
        words: The words that were typed.
    """
    match error:
        case UnusedCliTokensError():
            return _unused(error, verb, words)
        case MissingArgumentError():
            return _missing(error)
        case RepeatArgumentError():
            return f"{error.token.keyword} occurs twice. Expected it once. Leave one of them out."
        case UnknownOptionError():
            return _unknown(error, verb, words)
    # A setting's wrong value has a cause of pydantic's, which is imported then.
    if type(error.__cause__).__name__ == "ValidationError":
        from instil.recipe.wording import in_plain_words

        return in_plain_words(cast(Any, error.__cause__))
    if isinstance(error, CoercionError) and error.token is not None:
        name = error.token.keyword or (error.argument.name.lstrip("-").upper() if error.argument else "a value")
        return f"{name}: found {error.token.value!r}. {_expected(error.target_type, error.token.value)}"
    return str(error)


def _unused(error: CycloptsError, verb: str, words: list[str]) -> str:
    """Return that words belong to no option, or that what stands first was named by its option too."""
    unused = " ".join(error.unused_tokens or ())
    option = FIRST.get(verb)
    if option is not None and any(word.partition("=")[0] == option for word in words):
        return (
            f"found {unused!r} besides {option}. Expected the {option.lstrip('-')} once, "
            f"as {option} or first after the command. Leave one of them out."
        )
    if hint := _as_option(error.unused_tokens or (), verb):
        return hint
    # A number after `--optimizer.lr 1e-4` is meant as a second value.
    values = "; several values of a setting have commas between them" if unused[:1].isdigit() else ""
    return (
        f"{unused!r} belongs to no option (a switch takes true or false{values}). "
        "Leave it out, or put its option before it."
    )


def _as_option(unused: Sequence[str], verb: str) -> str:
    """Return how a setting that is typed as in Hydra, ``KEY=VALUE``, is written here; empty if the word is none."""
    typed = next((match for word in unused if (match := _KEY_VALUE.fullmatch(word))), None)
    if typed is None:
        return ""
    key, value = typed["key"], typed["value"]
    option = f"--{key.replace('_', '-')}"
    if verb in WITH_SETTINGS:
        from instil.recipe import in_another_group, is_setting  # imports pydantic, which only this error needs

        hint = known_elsewhere(key) or ("" if is_setting(key) else in_another_group(last_name(key)))
        meant = re.search(r"\b([a-z]+\.[a-z_]+|output)\b", hint)
        if hint and meant is None:  # not needed here, with the reason
            return f"{typed[0]!r} is no option{hint}. Leave it out."
        option = f"--{(meant[0] if meant else key).replace('_', '-')}"
    return f"{typed[0]!r} is no option. An option begins with --. Write {option} {value}."


def typed_setting(error: RecipeError, words: Sequence[str]) -> str:
    """Return the text of an error about a setting; one that was typed is named as the option that it is.

    Example:
        >>> error = RecipeError("recipe: optimizer.lr: found 'fast'. Input should be a number.")
        >>> typed_setting(error, ["train", "--optimizer.lr=fast"])
        "--optimizer.lr: found 'fast'. Input should be a number."
        >>> typed_setting(error, ["train", "recipe.yaml"])
        "recipe: optimizer.lr: found 'fast'. Input should be a number."
    """
    text = str(error)
    match = re.match(r"recipe: ([a-z_]+(?:\.[a-z_]+)*): ", text)
    options = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    if match is None or (option := f"--{match[1].replace('_', '-')}") not in options:
        return text
    return f"{option}: {text[match.end() :]}"


def _missing(error: MissingArgumentError) -> str:
    """Return that a word or the value of an option is missing."""
    argument = error.argument
    # What is written without an option: cyclopts would name an option that nobody types.
    if error.keyword is None and argument is not None and argument.index is not None:
        return f"{argument.name.lstrip('-').upper()} is missing. Write it after the command."
    name = error.keyword or (argument.name if argument is not None else "an option")
    if error.keyword is None and not error.tokens_so_far:
        return f"{name} is missing. Add it, with its value."
    count = argument.token_count()[0] if argument is not None else 1
    if count > 1:
        return f"{name} has {len(error.tokens_so_far)} of {count} values. Expected {count} after it. Add the others."
    return f"{name} has no value. Expected one after it. Add it, or leave the option out."


def _unknown(error: UnknownOptionError, verb: str, words: Sequence[str]) -> str:
    """Return that there is no such option, with the one that is probably meant."""
    option = error.token.keyword or error.token.value
    if meant := meant_option(verb, option.partition("=")[0], _value_of(option.partition("=")[0], words)):
        return f"unknown option {option}. {meant}"
    names = [name for argument in error.argument_collection if argument.parse for name in argument.names]
    if any(name.startswith("--optimizer.") for name in names):
        from instil.recipe import in_another_group  # imports pydantic, which only this error needs

        if meant := known_elsewhere(option) or in_another_group(last_name(option)):
            return f"unknown option {option}{_as_options(meant)}."
    if option == "--adapter":
        return f"unknown option {option}. An adapter's folder is a model: name it with --model."
    return f"unknown option {option}{nearest(option, names)}."


def _value_of(option: str, words: Sequence[str]) -> str:
    """Return the value that was typed with an option, or an empty string.

    Example:
        >>> _value_of("--format", ["--format=gguf"]), _value_of("--format", ["--format", "gguf"])
        ('gguf', 'gguf')
        >>> _value_of("--format", ["--format", "--quiet"])
        ''
    """
    for number, word in enumerate(words):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option:
            following = words[number + 1 : number + 2]
            return following[0] if following and not following[0].startswith("-") else ""
    return ""


def _as_options(hint: str) -> str:
    """Return a hint in which settings are written as one types them.

    Example:
        >>> _as_options(" (did you mean 'model.template'?)"), _as_options(" (… is optimizer.lr here)")
        (" (did you mean '--model.template'?)", ' (… is --optimizer.lr here)')
    """
    return re.sub(r"(?<![\w.-])([a-z_]+\.[a-z_]+)", r"--\1", hint)


def _expected(kind: Any, value: str) -> str:
    """Return what the value of an option should have been."""
    choices = [str(choice) for choice in get_args(kind)]
    if choices and all(isinstance(choice, str) for choice in get_args(kind)):
        listed = ", ".join(choices[:-1]) + f" or {choices[-1]}" if len(choices) > 1 else choices[0]
        return f"Expected {listed}{nearest(value, choices)}. Choose one of them."
    return f"Expected {_KINDS.get(getattr(kind, '__name__', ''), 'another value')}. Correct it."
