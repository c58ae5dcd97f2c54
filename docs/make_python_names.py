"""Write docs/reference/python-names.md from the public names' own docstrings: ``python docs/make_python_names.py``."""

from __future__ import annotations

import inspect
import re
from typing import Any

from docs_site.markdown import as_markdown, docstring_of, one_line, write
from pydantic import BaseModel

import instil

HEAD = """# Python names

Every public name of `import instil`: its signature, what it returns, and what it raises.
[From Python](python.md) shows how they are used, task by task.

A name that is not on this page may change without notice.
This page is written by `python docs/make_python_names.py` from the docstrings.
"""
GROUPS = {
    "Calls": lambda value: inspect.isfunction(value),
    "Records and classes": lambda value: inspect.isclass(value) and not issubclass(value, Exception),
}
"""Headings and what stands under each; errors have a page of their own."""


def signature_of(name: str, value: Any) -> str:
    """Return a signature, a line for each parameter where it is long."""
    signature = inspect.signature(value)
    parts: list[str] = []
    has_star = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not has_star:
            parts.append("*")
            has_star = True
        has_star = has_star or parameter.kind is parameter.VAR_POSITIONAL
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        annotated = "" if parameter.annotation is parameter.empty else f": {type_name(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {default_of(parameter.default)}"
        parts.append(f"{stars}{parameter.name}{annotated}{default}")
    has_result = signature.return_annotation not in (signature.empty, None, "None")
    returned = f" -> {type_name(signature.return_annotation)}" if has_result else ""
    line = f"{name}({', '.join(parts)}){returned}"
    return line if len(line) <= 88 else "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){returned}"])


def type_name(annotation: Any) -> str:
    """Return a type without the modules in front of its names."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)


def default_of(value: Any) -> str:
    """Return a default as it is typed; `…` for an object that has no literal."""
    text = repr(value)
    return "…" if " at 0x" in text or text.startswith("<") else text


def body(value: Any) -> list[str]:
    """Return what a docstring tells, as paragraphs and lists."""
    doc = docstring_of(value)
    parts = [as_markdown(text) for text in (doc.short_description, doc.long_description) if text]
    named = [(entry.arg_name, entry.description) for entry in doc.params]
    if named:
        parts.append("\n".join(f"- `{name}`: {one_line(as_markdown(text))}" for name, text in named))
    if doc.returns and doc.returns.description:
        parts.append(f"Returns: {one_line(as_markdown(doc.returns.description))}")
    if doc.raises:
        parts.append(
            "\n".join(
                f"- Raises `{entry.type_name}`: {one_line(as_markdown(entry.description))}" for entry in doc.raises
            )
        )
    for example in doc.examples:
        parts.append(f"```pycon\n{inspect.cleandoc(example.description or '')}\n```")
    return parts


def methods_of(kind: type) -> list[tuple[str, Any]]:
    """Return the public methods and properties that a class defines itself."""
    members = []
    for name, member in vars(kind).items():
        function = getattr(member, "__func__", member)
        is_inherited = issubclass(kind, BaseModel) and name in dir(BaseModel)
        if (
            not name.startswith("_")
            and not is_inherited
            and (inspect.isfunction(function) or isinstance(member, property))
        ):
            members.append((name, function))
    return members


def section(name: str, value: Any) -> str:
    """Return the section of a public name."""
    is_settings = inspect.isclass(value) and issubclass(value, BaseModel)
    shown = f"{name}(**settings)" if is_settings else signature_of(name, value)
    parts = [f"### {name}", f"```text\ninstil.{shown}\n```", *body(value)]
    for method, function in methods_of(value) if inspect.isclass(value) else []:
        is_property = isinstance(function, property)
        call = f"{name}.{method}" if is_property else signature_of(f"{name}.{method}", function)
        parts += [f"#### {name}.{method}", f"```text\n{call}\n```", *body(function)]
    return "\n\n".join(part for part in parts if part)


def page() -> str:
    """Return the page."""
    names = [name for name in instil.__all__ if not name.startswith("_")]
    parts = [HEAD]
    for heading, belongs in GROUPS.items():
        values = [(name, getattr(instil, name)) for name in names if belongs(getattr(instil, name))]
        parts += [f"## {heading}\n", *(section(name, value) + "\n" for name, value in values)]
    return "\n".join(parts)


if __name__ == "__main__":
    write("python-names.md", page())
