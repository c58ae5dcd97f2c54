"""Data to inspect, and everything that ``instil inspect`` makes of it: the survey, one row, the page, a fixed copy.

The command line makes an `Inspection` and prints what its methods return (see `report`).

Why: `Inspection.of` sets up the chat tokenizer with the functions of training, so the tokens shown are those trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.proof import Proof
from instil.inspection.fixed_file import FixedFile, write_fixed
from instil.inspection.page_file import write_page
from instil.inspection.repair import Repair, repair_all
from instil.inspection.report import Subject
from instil.inspection.shown_rows import ShownRow, find_row
from instil.inspection.survey import Survey, survey
from instil.model.folder.location import locate_tokenizer
from instil.preparation.chat_setup import ChatSetup, set_up_chat, with_max_tokens
from instil.recipe import Recipe
from instil.template.resolve import DEFAULT_TEMPLATE, short_name


@dataclass(frozen=True, slots=True)
class Inspection:
    """The data of a recipe, and the chat tokenizer that encodes it.

    Attributes:
        recipe: The recipe, with the longest example resolved where the model's config is there.
        chat: Template, tokenizer and the encoder's settings.
        subject: Names of the data, the model and the template.
        trains: Whether the recipe is one to train with, rather than made for the data.
    """

    recipe: Recipe
    chat: ChatTokenizer
    subject: Subject
    trains: bool = False

    @classmethod
    def of(cls, data: str, recipe: Recipe, *, trains: bool = False) -> Inspection:
        """Set up the chat tokenizer and the longest example, as training does.

        A folder with only a tokenizer is enough; without config.json the longest example stays as the recipe sets it.

        Args:
            data: The data as the user named it.
            recipe: Only `model` and `data` count.
            trains: Whether the recipe is one to train with.

        Raises:
            ModelError: If there is no tokenizer.
            TemplateError: If the template does not compile.
        """
        remote = recipe.model.trust_remote_code
        location = locate_tokenizer(recipe.model.name, recipe.model.revision, trust_remote_code=remote)
        if (location.folder / "config.json").exists():
            recipe = with_max_tokens(recipe, location)
        setup = set_up_chat(recipe, location)
        template = f"{template_name(recipe, setup)} ({setup.chat.template.fingerprint[:12]})"
        subject = Subject(data, recipe.model.name, template, setup.chat.stop_tokens, setup.notes, setup.warnings)
        return cls(recipe, setup.chat, subject, trains)

    def survey(self, *, keep_rows: int = 0) -> Survey:
        """Read, encode and examine every row (see `survey.survey`)."""
        return survey(self.recipe, self.chat, keep_rows=keep_rows, trains=self.trains)

    def prove(self) -> Proof:
        """Return the proof of the template."""
        return self.chat.prove()

    def row(self, row: str) -> ShownRow:
        """Return one row with its tokens, by its number or place (see `shown_rows.find_row`)."""
        return find_row(self.recipe, self.chat, row)

    def fix(self, path: Path) -> Iterator[Repair | FixedFile]:
        """Write a fixed copy of the rows and yield the changes (see `fixed_file.write_fixed`)."""
        return write_fixed(
            repair_all(self.recipe, stop_tokens=self.chat.stop_tokens, read_rendered=self.chat.read_rendered), path
        )

    def write_page(self, path: Path, survey: Survey, proof: Proof) -> str:
        """Write the mask page and return a line about it (see `page_file.write_page`)."""
        return write_page(path, self.chat, self.subject, survey, proof)


def template_name(recipe: Recipe, setup: ChatSetup) -> str:
    """Return what the template is called in a report."""
    template = recipe.model.template
    if template is None:
        return DEFAULT_TEMPLATE if setup.notes else "the model's own"
    return short_name(template, otherwise="given as source")
