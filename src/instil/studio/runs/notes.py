"""Tags and a note on a run, by a person, in ``notes.json`` of the run folder: it moves with the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from instil.errors import RunError
from instil.files import write_json_atomic
from instil.refused_writes import refused_writes
from instil.training.records.run_folder import read_run_json

NOTES = "notes.json"
"""Name of the file in a run folder."""
MOST_TAGS, LONGEST_TAG, LONGEST_NOTE = 20, 40, 10_000


@dataclass(frozen=True, slots=True)
class Notes:
    """What a person wrote about a run.

    Attributes:
        tags: Short words to filter by, each once.
        note: A text.
    """

    tags: tuple[str, ...] = ()
    note: str = ""


def read_notes(folder: Path) -> Notes:
    """Read what was written about a run; nothing if there is no such file.

    Raises:
        RunError: If the file is damaged.
    """
    path = folder / NOTES
    value = read_run_json(path)
    tags, note = value.get("tags", []), value.get("note", "")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags) or not isinstance(note, str):
        raise RunError(f"{path}: damaged. Expected tags, a list of texts, and note, a text. Fix or remove it.")
    return Notes(tuple(tags), note)


def tags_of(text: str) -> tuple[str, ...]:
    """Return the tags in a field: words between commas, each once.

    Raises:
        RunError: If there are too many, or one is too long.

    Example:
        >>> tags_of("best, to ship,, best ")
        ('best', 'to ship')
    """
    tags = tuple(dict.fromkeys(tag for part in text.replace("，", ",").split(",") if (tag := " ".join(part.split()))))
    longest = max(map(len, tags), default=0)
    if len(tags) > MOST_TAGS or longest > LONGEST_TAG:
        raise RunError(
            f"tags: found {len(tags)}, the longest with {longest} characters. Expected at most {MOST_TAGS} of at most "
            f"{LONGEST_TAG}. Write the rest into the note."
        )
    return tags


def write_notes(folder: Path, notes: Notes) -> None:
    """Replace what was written about a run, whole or not at all.

    Raises:
        RunError: If the note is too long, the file that is there is damaged, or the disk refuses.
    """
    read_notes(folder)  # what is there and cannot be read is not written over
    if len(notes.note) > LONGEST_NOTE:
        raise RunError(
            f"note: found {len(notes.note):,} characters. Expected at most {LONGEST_NOTE:,}. Write a file beside the run."
        )
    path = folder / NOTES
    with refused_writes(path, raises=RunError, found="the note cannot be written", otherwise="fix the folder"):
        write_json_atomic(path, {"tags": list(notes.tags), "note": notes.note})
