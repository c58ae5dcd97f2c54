"""``instil template``: list, show, prove and compare chat templates."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from instil.errors import TemplateError, nearest

if TYPE_CHECKING:
    from instil.template.comparison import Side

app = App(name="template", help="List, show, prove and compare chat templates.", help_format="plaintext")

EXAMPLE_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
"""Special tokens of a template that is shown without a tokenizer."""
DIFF_STYLES = {"-": "red", "+": "green", " ": "dim"}


@app.command(name="list")
def list_templates(*, as_json: Annotated[bool, Parameter(name="json")] = False) -> None:
    """List the named templates.

    Args:
        as_json: Print all facts about them as JSON.
    """
    from instil.template.library import NAMED_TEMPLATES

    if as_json:
        facts = [
            {name: getattr(template, name) for name in template.__dataclass_fields__}
            for template in NAMED_TEMPLATES.values()
        ]
        print(json.dumps(facts, indent=1))
        return
    from instil.screen import Column, Screen

    rows = [
        [
            template.name,
            template.stop_token or "eos token",
            ", ".join(word for word, has in (("system", template.system), ("tools", template.tools)) if has),
            template.summary,
        ]
        for template in NAMED_TEMPLATES.values()
    ]
    screen = Screen()
    screen.table([Column("name"), Column("stop token"), Column("takes"), Column("what it is")], rows)
    screen.hint("\nnext: instil template show NAME, or instil inspect rows.jsonl --template NAME")


@app.command(name="show")
def show_template(template: str, /) -> None:
    """Print a template's Jinja source. A format string prints as the template made from it.

    Args:
        template: A named template, a .jinja file, a model or run folder (FOLDER:NAME where it has several),
            or a format string.
    """
    from instil.screen import Screen, hide_work
    from instil.template.resolve import read_template

    named = read_template(template)
    source = named.source
    hide_work()  # a bar's terminal would wrap the source, which must be printed as it is
    if named.note:
        Screen(stderr=True).note(named.note)
    print(source, end="" if source.endswith("\n") else "\n")


@app.command(name="prove")
def prove_template(model_or_file: str | None = None, /, *, model: str | None = None) -> None:
    """Prove that training and serving see the same tokens with a template. Exit status 1 if the proof fails.

    Args:
        model_or_file: A template (name, .jinja file or format string), or a model or tokenizer folder to prove its own
            template.
        model: Model or tokenizer folder to prove a template with; alone, its own template is proved. Default: demo.
    """
    from instil.model.folder.location import locate_tokenizer
    from instil.preparation.chat_setup import set_up_chat
    from instil.recipe import Recipe
    from instil.screen import Screen

    if model_or_file is not None and not _is_template(model_or_file):
        if model is not None:
            raise TemplateError(
                f"template prove: found the model {model_or_file} and --model {model}. Expected one model, or a template "
                "and a model. Leave one of them out."
            )
        settings = {"name": model_or_file}
    elif model_or_file is None and model is None:
        raise TemplateError("template prove: found no template and no model. Expected one of them. Name it.")
    else:
        settings = {"name": model or "demo"} | ({} if model_or_file is None else {"template": model_or_file})
    recipe = Recipe.from_mapping({"model": settings})
    setup = set_up_chat(recipe, locate_tokenizer(recipe.model.name))
    proof = setup.chat.prove()
    screen = Screen()
    for note in setup.notes:
        screen.note(note)
    head, *findings = proof.lines()
    screen.line(head, style="green" if proof.passed else "bold red")
    for finding in findings:
        screen.line(finding)
    screen.line(f"stops on: {', '.join(setup.chat.stop_tokens)}")
    if not proof.passed:
        sys.exit(1)
    screen.hint("next: instil inspect rows.jsonl with the same model and template shows it on your rows")


@app.command(name="compare")
def compare_two(one: str, other: str, /, *, model: str | None = None) -> None:
    """Show where two templates differ, in text and in ids, on the proof's conversations. Exit status 1 if they do.

    Args:
        one: A template (name, .jinja file or format string), or a model or tokenizer folder for its own template and
            tokenizer.
        other: Another one.
        model: Model whose tokenizer encodes the texts of templates. Without it, templates are compared in text only.
    """
    from instil.encoding.proof import proof_conversations
    from instil.screen import Screen
    from instil.template.comparison import compare_templates

    screen = Screen()
    conversations = proof_conversations("</s>")
    sides = _side(one, model), _side(other, model)
    differences = 0
    for name, difference in zip(conversations, compare_templates(*sides, conversations), strict=True):
        if difference is None:
            screen.line(f"{name}: same", style="dim")
            continue
        differences += 1
        screen.line(f"{difference.conversation}: {difference.found}", style="yellow")
        for line in difference.lines:
            screen.line(f"    {line}", style=DIFF_STYLES.get(line[:1], ""))
    compared = "text or ids" if all(side.encode for side in sides) else "text"
    screen.line(f"{differences} of {len(conversations)} conversations differ in {compared} (- {one}, + {other})")
    if differences:
        sys.exit(1)


def _is_template(spec: str) -> bool:
    """Return True for a template: a name, a file, FOLDER:NAME, Jinja source or a format string; False for a model.

    Raises:
        TemplateError: If it is nearly the name of a template. A Hub id has an owner, so it is no model.
    """
    from instil.template.format_string import is_format_string
    from instil.template.library import NAMED_TEMPLATES
    from instil.template.resolve import names_one_of_a_folder

    # A template that is written out may be longer than any name.
    written_out = is_format_string(spec) or "{%" in spec or "{{" in spec
    if written_out or spec in NAMED_TEMPLATES or os.path.isfile(spec) or names_one_of_a_folder(spec):
        return True
    if "/" not in spec and not os.path.exists(spec) and (meant := nearest(spec, NAMED_TEMPLATES)):
        raise TemplateError(
            f"template {spec!r}: no such name or file{meant}. Expected the name of a template, a .jinja file, or a model. "
            "Run: instil template list"
        )
    return False


def _side(spec: str, model: str | None) -> Side:
    """Return a template to compare, with the tokenizer of its own model or of the named one."""
    from instil.template.chat_template import ChatTemplate
    from instil.template.comparison import Side
    from instil.template.resolve import read_template

    if not _is_template(spec):
        from instil.encoding.chat_tokenizer import ChatTokenizer

        chat = ChatTokenizer.from_pretrained(spec)
        return Side(spec, chat.template, _encoder(chat.tokenizer))
    tokens: dict[str, str] = dict(EXAMPLE_TOKENS)
    encode = None
    if model is not None:
        from instil.encoding.loading import load_tokenizer
        from instil.model.folder.location import locate_tokenizer

        tokenizer = load_tokenizer(locate_tokenizer(model).tokenizer_folder)
        tokens, encode = tokenizer.special_tokens_map, _encoder(tokenizer)
    return Side(spec, ChatTemplate(read_template(spec).source, special_tokens=tokens, name=spec[:60]), encode)


def _encoder(tokenizer: Any) -> Callable[[str], Sequence[int]]:
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
