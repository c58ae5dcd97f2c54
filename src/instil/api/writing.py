"""`instil.write`: write conversations in any format, or as the text that a chat template prints; `convert` uses it too."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instil.api.arguments import check_type
from instil.conversation import Conversation
from instil.data.formats.registry import WRITTEN
from instil.data.memory_rows import check_destination, conversations_of
from instil.data.writing import write_conversations
from instil.encoding.turns.rendered_writing import TextPrinter
from instil.errors import FormatError, nearest
from instil.template.chat_template import ChatTemplate
from instil.template.library import NAMED_TEMPLATES
from instil.template.read_back import readable
from instil.template.resolve import read_template
from instil.units import counted

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.recipe import Objective

RENDERED = (*(f"{name}-text" for name in NAMED_TEMPLATES), "template-text")
"""Targets that write rendered text."""
TARGETS = (*WRITTEN, *RENDERED)
_USUAL_END = "</s>"
"""End-of-text token of the templates that name none, where no model is given."""


def write(
    rows: Any,
    path: str | PathLike[str],
    *,
    format: str = "messages",
    model: Any = None,
    template: str | None = None,
    on_change: Callable[[str], None] | None = None,
    objective: Objective = "sft",
) -> int:
    """Write conversations or rows to a file in any format. The file appears complete, or not at all.

    Args:
        rows: What `read` takes except paths: `Conversation`s, dicts in any format, lists of messages, a table.
        path: A .jsonl, .json, .csv or .tsv file, each also as .gz or .zst. ``-`` writes lines to standard output.
        format: Name of the format to write. ``chatml-text``, ``llama-3-text`` … write one column ``text``, with all that
            the template prints for training; ``template-text`` does so with `template`, or with the model's own.
        model: Model whose tokenizer gives the begin and end tokens of such a text; only its tokenizer is read.
        template: For ``template-text``: a .jinja file, Jinja source, a format string, a name or a model folder.
        on_change: Called with what such a text holds in another form, and in how many rows; by default a warning.
        objective: What rows are read for, as in `read`. Conversations with a side are written as ``preference``, two in
            a row as one pair, or as ``kto``.

    Returns:
        The number of rows written.

    Raises:
        FormatError: If the format would lose a part of a conversation. Nothing is written then.
        DataError: If a row cannot be read, the file cannot be written, or has a suffix that is not supported.
        TemplateError: If the template refuses a conversation.

    Example:
        >>> write([{"question": "2+2?", "answer": "4"}], "-", format="llama-2-text")
        {"text": "<s>[INST] 2+2? [/INST] 4 </s>"}
        1
    """
    check_destination(rows, path)
    check_type("template", template, str, FormatError, expected="a template's name, file or source")
    if isinstance(format, str) and format.endswith("-text"):
        printer = _printer(format, model, template)
        changes: Counter[str] = Counter()
        count = write_conversations(
            _printed(conversations_of(rows, objective), printer, changes), Path(path), format="text"
        )
        for change, num_rows in changes.items():
            (on_change or _warn)(f"{change}: {counted(num_rows, 'row')}")
        return count
    if model is not None or template is not None:
        name = "model" if template is None else "template"
        raise FormatError(
            f"{name}: belongs to rendered text, not to {format!r:.40}. Expected template-text. "
            f"Write --to template-text, or leave {name} out."
        )
    return write_conversations(conversations_of(rows, objective), Path(path), format=format)


def _warn(change: str) -> None:
    warnings.warn(f"instil.write: {change}", stacklevel=3)


def _printed(
    conversations: Iterator[Conversation], printer: TextPrinter, changes: Counter[str]
) -> Iterator[Conversation]:
    for conversation in conversations:
        printed = printer.print(conversation)
        changes.update(printed.changes)
        yield printed.row


def _printer(target: str, model: Any, template: str | None) -> TextPrinter:
    """Return what prints the rows of a target such as ``chatml-text``.

    Raises:
        FormatError: If there is no such target, or an argument is missing or does not belong to it.
        InstilError: If the model or the template cannot be read.
    """
    if target not in RENDERED:
        raise FormatError(
            f"format: unknown {target!r:.60}{nearest(target, RENDERED)}. Expected one of {', '.join(RENDERED)}. "
            "For a template of your own write template-text with --template."
        )
    name = target.removesuffix("-text")
    if target == "template-text":
        if template is None and model is None:
            raise FormatError(
                "template-text: found neither a template nor a model. Expected one of them. Add --template mine.jinja, "
                "or --model NAME for the template of that model."
            )
        return _of_model(target, model, template) if model is not None else _of_template(target, str(template))
    if template is not None:
        raise FormatError(f"{target}: is the template {name} already. Expected no other one. Write --to template-text.")
    if model is not None:
        return _of_model(target, model, name)
    return TextPrinter(target, readable(name, _USUAL_END).template, frozenset(NAMED_TEMPLATES[name].control_tokens))


def _of_model(target: str, model: Any, template: str | None) -> TextPrinter:
    # Why: a tokenizer needs transformers, which takes seconds to import; a named template alone does not.
    from instil.encoding.chat_tokenizer import ChatTokenizer

    chat: ChatTokenizer = ChatTokenizer.from_pretrained(model, template=template)
    return TextPrinter(target, chat.template, chat.context.added_texts, chat.conversation)


def _of_template(target: str, spec: str) -> TextPrinter:
    found = read_template(spec)
    special = {"bos_token": "<s>", "eos_token": found.stop_token or _USUAL_END}
    added = frozenset((*found.control_tokens, *special.values()))
    return TextPrinter(target, ChatTemplate(found.source, special_tokens=special, name=found.name), added)
