"""Set up the tokenizer and chat template of a recipe's model, and the recipe's settings that depend on them.

A run does this first, because everything else reads the tokenizer. `inspect`, `prepare` and `template` do the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.encoding.tokenizer_setup import set_up_tokenizer
from instil.model.chat_tokens import TokenChange
from instil.model.folder.config import context_length, load_config
from instil.model.folder.kept_facts import Fact, kept_fact
from instil.model.folder.location import ModelLocation
from instil.preparation.encode_pairs import check_preference_settings
from instil.recipe import Recipe
from instil.run_warning import RunWarning


@dataclass(frozen=True, slots=True)
class ChatSetup:
    """A tokenizer that is ready for chat.

    Attributes:
        chat: Tokenizer and template.
        template: Name of the template, for people.
        change: The changes to the tokenizer.
        notes: Notes for people, one line each.
        warnings: What is probably wrong with the template for this model.
    """

    chat: ChatTokenizer
    template: str
    change: TokenChange
    notes: tuple[str, ...]
    warnings: tuple[RunWarning, ...] = ()


def set_up_chat(recipe: Recipe, location: ModelLocation) -> ChatSetup:
    """Load the tokenizer, choose the template, and add the control tokens that the tokenizer lacks.

    If the template prints the date and the recipe sets none, it is today's from here on (see `with_date`).

    Args:
        recipe: The recipe. Only `model`, `data` and the objective count.
        location: The model's location.

    Raises:
        ModelError: If there is no tokenizer.
        TemplateError: If the template does not compile.
        RecipeError: If the objective compares answers, and a setting would cut them or train anything else.
    """
    check_preference_settings(recipe)
    setup = set_up_tokenizer(
        location,
        recipe.model.template,
        settings=EncodingSettings.from_recipe(recipe.data),
        stop_token=recipe.model.stop_token,
        trust_remote_code=recipe.model.trust_remote_code,
    )
    return ChatSetup(ChatTokenizer.of(setup), setup.template_name, setup.change, setup.notes, setup.warnings)


def with_max_tokens(recipe: Recipe, location: ModelLocation) -> Recipe:
    """Return the recipe with the model's context length as `data.max_tokens`, where the recipe sets none."""
    if recipe.data.max_tokens is not None:
        return recipe
    length = _context_length(location, trust_remote_code=recipe.model.trust_remote_code)
    return recipe if length is None else recipe.override({"data": {"max_tokens": length}})


def _context_length(location: ModelLocation, *, trust_remote_code: bool) -> Fact:
    """Return the model's context length; code that comes with a model is asked each time."""

    def find() -> Fact:
        return context_length(load_config(location, trust_remote_code=trust_remote_code))

    return find() if trust_remote_code else kept_fact(location.folder, "context", find)


def with_date(recipe: Recipe, chat: ChatTokenizer) -> Recipe:
    """Return the recipe with the date that the template prints, so that resuming and inference use the same date."""
    day = chat.settings.date
    return recipe if day == recipe.data.date else recipe.override({"data": {"date": day}})
