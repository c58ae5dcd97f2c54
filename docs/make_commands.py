"""Write docs/reference/commands.md from the commands themselves: ``python docs/make_commands.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyclopts import App
from docs_site.markdown import as_markdown, cell, docstring_of, table, write

from instil.cli.main import VERBS, build_app
from instil.recipe import Recipe

HEAD = """# Commands

Every command with its usage, its options and their defaults. `instil COMMAND --help` prints the same.

- A path may begin with `~`, the home folder. A file, folder, glob, `-` (standard input) or Hub id is data.
- `--quiet` prints errors only. `--traceback` shows where an error came from.
- A command that fails prints one line and exits with 2. [Errors](errors.md) has all exit codes.
- Options such as `--optimizer.lr` are settings of a recipe: [settings](settings.md) describes them.

This page is written by `python docs/make_commands.py` from `src/instil/cli/`.
"""


def apps() -> Iterator[tuple[str, App]]:
    """Yield each command that can be typed, in the order of `instil --help`: its words, and its app."""
    for verb, _, _ in VERBS:
        app = build_app(verb)[verb]
        if app.default_command is not None:
            yield verb, app
        for name in app:
            if not name.startswith("-"):
                yield f"{verb} {name}", app[name]


def is_setting(name: str) -> bool:
    """Return whether an option is a setting of a recipe."""
    words = name.removeprefix("--").replace("-", "_").split(".")
    return len(words) > 1 and words[0] in Recipe.model_fields


def kind_of(argument: Any) -> str:
    """Return what an option takes."""
    choices = argument.get_choices()
    if choices:
        return " \\| ".join(f"`{choice}`" for choice in choices)
    hint = str(argument.hint)
    if "bool" in hint:
        return "switch"
    named = {"Path": "path", "int": "whole number", "float": "number", "list": "list", "tuple": "list"}
    return next((words for part, words in named.items() if part in hint), "text")


def default_of(argument: Any) -> str:
    """Return the default of an option, or whether it must be there."""
    if argument.required:
        return "required"
    default = argument.field_info.default
    return "" if default is None or isinstance(default, type) or not argument.show_default else f"`{default}`".lower()


def usage(words: str, arguments: list[Any]) -> str:
    """Return how a command is typed."""
    positional = [argument for argument in arguments if argument.index is not None]
    named = [argument.names[0].removeprefix("--").upper() for argument in positional]
    shown = [name if argument.required else f"[{name}]" for name, argument in zip(named, positional, strict=True)]
    return " ".join(["instil", words, *shown, "[OPTIONS]"])


def section(words: str, app: App) -> str:
    """Return the section of a command."""
    arguments = [argument for argument in app.assemble_argument_collection(parse_docstring=True) if argument.show]
    own = [argument for argument in arguments if not is_setting(argument.names[0])]
    groups = dict.fromkeys(argument.names[0].split(".")[0] for argument in arguments if is_setting(argument.names[0]))
    doc = docstring_of(app.default_command)
    parts = [f"## instil {words}", f"```text\n{usage(words, own)}\n```", as_markdown(doc.short_description)]
    if doc.long_description:
        parts.append(as_markdown(doc.long_description))
    if own:
        rows = [
            [f"`{', '.join(argument.names)}`", kind_of(argument), default_of(argument), cell(argument.parameter.help)]
            for argument in own
        ]
        parts.append(table(["argument or option", "takes", "default", "meaning"], rows))
    if groups:
        parts.append(f"Settings as options: {', '.join(f'`{group}.…`' for group in groups)}.")
    return "\n\n".join(parts)


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *(section(words, app) + "\n" for words, app in apps())])


if __name__ == "__main__":
    write("commands.md", page())
