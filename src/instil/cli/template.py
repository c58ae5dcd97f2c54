"""``instil template``: list, show, prove and compare chat templates."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from instil.errors import TemplateError

if TYPE_CHECKING:
    from instil.template.comparison import Side

app = App(name="template", help="List, show, prove and compare chat templates.", help_format="plaintext")

EXAMPLE_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
"""Special tokens of a template that is shown without a tokenizer."""


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
    print(f"{'name':<11}{'stop token':<18}{'takes':<15}description")
    for template in NAMED_TEMPLATES.values():
        takes = ", ".join(word for word, has in (("system", template.system), ("tools", template.tools)) if has)
        print(f"{template.name:<11}{template.stop_token or 'eos token':<18}{takes:<15}{template.summary}")


@app.command(name="show")
def show_template(template: str, /) -> None:
    """Print a template's Jinja source. A format string prints as the template made from it.

    Args:
        template: A named template, a .jinja file, a model or run folder (FOLDER:NAME where it has several),
            or a format string.
    """
    from instil.template.resolve import read_template

    named = read_template(template)
    source = named.source
    if named.note:
        print(named.note, file=sys.stderr)
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
    print("\n".join([*setup.notes, *proof.lines()]))
    print(f"stops on: {', '.join(setup.chat.stop_tokens)}")
    if not proof.passed:
        sys.exit(1)


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
    from instil.template.comparison import compare_templates

    conversations = proof_conversations("</s>")
    sides = _side(one, model), _side(other, model)
    differences = 0
    for name, difference in zip(conversations, compare_templates(*sides, conversations), strict=True):
        if difference is None:
            print(f"{name}: same")
            continue
        differences += 1
        print(f"{difference.conversation}: {difference.found}")
        print("".join(f"    {line}\n" for line in difference.lines), end="")
    compared = "text or ids" if all(side.encode for side in sides) else "text"
    print(f"{differences} of {len(conversations)} conversations differ in {compared} (- {one}, + {other})")
    if differences:
        sys.exit(1)


def _is_template(spec: str) -> bool:
    """Return True for a template: a name, a file, FOLDER:NAME, Jinja source or a format string; False for a model."""
    from instil.template.format_string import is_format_string
    from instil.template.library import NAMED_TEMPLATES
    from instil.template.resolve import names_one_of_a_folder

    # A template that is written out may be longer than any name.
    written_out = is_format_string(spec) or "{%" in spec or "{{" in spec
    return written_out or spec in NAMED_TEMPLATES or os.path.isfile(spec) or names_one_of_a_folder(spec)


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
