"""Writes the card of a finished run into its ``model/`` and ``adapter/``, from the same record as those of its exports.

Why: peft leaves a form to fill in beside an adapter, with the path of the base on this machine. Ours replaces it.
"""

from __future__ import annotations

from typing import Literal

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.files import write_text_atomic
from instil.model.folder.location import locate
from instil.training.model_card.card import model_card
from instil.training.model_card.papers import read_papers
from instil.training.model_card.subject import CardSubject
from instil.training.records.run_folder import RunPaths


def write_cards(paths: RunPaths, chat: ChatTokenizer) -> None:
    """Write ``README.md`` into the folders of the model that a run has written.

    Args:
        paths: The run folder, with results.
        chat: Tokenizer and template of the run.
    """
    papers = read_papers(locate(paths.folder))
    name = paths.folder.resolve().name
    forms: tuple[Literal["merged", "adapter"], ...] = ("merged", "adapter") if paths.adapter.is_dir() else ("merged",)
    for form in forms:
        subject = CardSubject(name=name, form=form, stop_tokens=chat.stop_tokens, template=chat.template.fingerprint)
        folder = paths.model if form == "merged" else paths.adapter
        write_text_atomic(folder / "README.md", model_card(papers, subject))
