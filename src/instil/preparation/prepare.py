"""`prepare`: a recipe's data as a store of examples, made once and then only opened.

The one file of `data` that talks to the encoder's package. The order of things: find the files, look what they are,
decide on the store's key; if it is there, open it; else cut the rows into chunks, have them encoded, add up, decide the
split, check the ledger, and put the store in place whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from instil.conversation import Conversation, Place
from instil.data.formats.pattern import check_columns
from instil.data.formats.row_format import ReadOptions
from instil.data.messages import conversation_from_dict
from instil.data.reading import detect
from instil.errors import DataError, RecipeError
from instil.preparation.accounting import Account
from instil.preparation.cache_key import cache_folder, check_folder, file_hashes, fingerprint_of
from instil.preparation.chunks import Input, cut, draw_rows, find_input
from instil.preparation.encode_rows import TOO_LONG, Done, SourceWork, Work
from instil.preparation.ledger import Ledger
from instil.preparation.store import ExampleStore
from instil.preparation.store_writer import StoreWriter
from instil.preparation.team import Alone, Team, by_the_first, map_shared
from instil.recipe import DataSettings, Recipe

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe's data, ready to be trained on.

    Attributes:
        folder: The store's folder.
        train: Examples of one epoch.
        heldout: Examples to evaluate the loss on; may be empty.
        reused: Whether the store was there already.
    """

    folder: Path
    train: ExampleStore
    heldout: ExampleStore
    reused: bool

    @property
    def ledger(self) -> Ledger:
        """The account of the rows to train on."""
        assert self.train.ledger is not None
        return self.train.ledger

    @property
    def heldout_ledger(self) -> Ledger:
        """The account of the held-out rows."""
        assert self.heldout.ledger is not None
        return self.heldout.ledger

    @property
    def fingerprint(self) -> str:
        """Fingerprint of data, template, tokenizer and settings."""
        return self.train.fingerprint.rpartition("-")[0]

    @property
    def heldout_conversations(self) -> list[Conversation]:
        """Held-out conversations in the order of the data, for evaluation by generating."""
        made = []
        for line in (self.folder / "heldout.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            place = None if row["place"] is None else Place(*row["place"])
            made.append(replace(conversation_from_dict(row["conversation"]), place=place))
        return made

    def to_json(self) -> dict[str, object]:
        """Give what a run's ledger.json holds."""
        return {
            "fingerprint": self.fingerprint,
            **self.ledger.to_json(),
            "heldout": self.heldout_ledger.to_json(),
        }

    def lines(self) -> list[str]:
        """Give evidence and ledgers as lines for people."""
        written = [*self.ledger.evidence, *self.ledger.lines()]
        if self.heldout_ledger.rows_in:
            written += ["held out:"] + [f"  {line}" for line in self.heldout_ledger.lines(used="evaluated")]
        return written


def prepare(
    recipe: Recipe,
    chat: ChatTokenizer,
    *,
    workers: int | None = None,
    refresh: bool = False,
    on_progress: Callable[[int], None] | None = None,
    team: Team | None = None,
) -> Prepared:
    """Make the store of a recipe's data, or open it where it is already made.

    Args:
        recipe: The recipe; its `data` settings count, and the seed where rows are drawn.
        chat: Template, tokenizer and the encoder's settings.
        workers: Processes, instead of the recipe's; 1 is this one, 0 one a core. The bytes are the same.
        refresh: Make the store again even if it is there.
        on_progress: Called with the number of rows done, now and then.
        team: The processes that prepare it together; each calls this. None for this one alone.

    Raises:
        RecipeError: If the recipe names no data.
        DataError: If data cannot be found or, with ``on_bad_row: stop``, a row cannot be used; if nothing is trained.
        InstilError: What the template or the encoder raised for a row, with its place.
    """
    if not recipe.data.sources:
        raise RecipeError("data.sources: found none; expected at least one file, folder, glob or Hub id; add one")
    team = team or Alone()
    found = by_the_first(team, lambda: _find(recipe, refresh=refresh, chat=chat))
    target = cache_folder(recipe) / found.key
    if not found.is_made:
        workers = recipe.data.workers if workers is None else workers
        writer = StoreWriter(
            target, fingerprint=found.key, replace=refresh or target.is_dir()
        )  # a damaged one gives way
        _make(recipe.data, chat, found, writer, workers=workers, team=team, on_progress=on_progress)
    opened = open_store(target)
    if opened is None:
        raise DataError(
            f"{target}: this process sees no prepared data where the first one put it; set data.store to a folder that all see"
        )
    return replace(opened, reused=found.is_made)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a store is made of.

    Attributes:
        key: Its name.
        is_made: Whether it is there already; the rest is empty then.
        inputs: The sources.
        evidence: What was seen of their formats, a line each.
    """

    key: str
    is_made: bool
    inputs: tuple[Input, ...] = ()
    evidence: tuple[str, ...] = ()


def _find(recipe: Recipe, *, chat: ChatTokenizer, refresh: bool) -> _Found:
    folder = cache_folder(recipe)
    check_folder(folder)
    inputs = [find_input(source, heldout=False, spool=folder) for source in recipe.data.sources]
    inputs += [find_input(source, heldout=True, spool=folder) for source in recipe.data.heldout]
    for found in inputs:
        if found.settings.columns or found.settings.format == "pattern":
            check_columns(found.settings.columns)
    key = fingerprint_of(recipe, inputs, encoder=chat.fingerprint + _day(recipe, chat))
    if not refresh and open_store(folder / key) is not None:
        file_hashes(folder).save()
        return _Found(key, True)
    drawn = tuple(draw_rows(found, seed=recipe.training.seed + number) for number, found in enumerate(inputs))
    return _Found(key, False, drawn, tuple(line for found in drawn for line in _evidence(found)))


def _make(
    data: DataSettings,
    chat: ChatTokenizer,
    found: _Found,
    writer: StoreWriter,
    *,
    workers: int,
    team: Team,
    on_progress: Callable[[int], None] | None,
) -> None:
    """Encode everything, each process its share; the first writes it and puts the store in place."""
    account = Account(found.inputs, data)

    def take(results: Sequence[Done]) -> None:
        for done in results:
            writer.write(done.batch)
            account.add(done)
        if on_progress is not None:
            on_progress(account.num_rows)

    with writer:
        map_shared(cut(found.inputs), chat, _work(data, found.inputs), workers=workers, team=team, take=take)
        by_the_first(team, lambda: _settle(writer, account, found.evidence, data))


def _settle(writer: StoreWriter, account: Account, evidence: Sequence[str], data: DataSettings) -> None:
    """Decide the split, check the ledger, put the store in place."""
    settled = account.settle(list(evidence))
    if not len(settled.train):
        raise DataError(_nothing_to_train(settled.train_ledger, data))
    writer.finish(
        train=settled.train,
        heldout=settled.heldout,
        ledgers={"train": settled.train_ledger, "heldout": settled.heldout_ledger},
        heldout_rows=settled.heldout_rows,
    )
    file_hashes(writer.folder.parent).save()


def _day(recipe: Recipe, chat: ChatTokenizer) -> str:
    """Give today's date where the template prints it and the recipe pins none: the store is then of that day."""
    return date.today().isoformat() if recipe.data.date is None and chat.template.prints_day else ""


def open_store(folder: Path) -> Prepared | None:
    """Open a store that is there; None where there is none or it is of another version."""
    if not folder.is_dir():
        return None
    try:
        train, heldout = (ExampleStore.open(folder, split=split) for split in ("train", "heldout"))
    except DataError:
        return None
    return Prepared(folder, train, heldout, reused=True)


def _evidence(found: Input) -> list[str]:
    settings = found.settings
    if settings.columns:
        return [f"{settings.path}: pattern (data.columns)"]
    if settings.format != "auto":
        return [f"{settings.path}: {settings.format} (as the recipe says)"]
    if not found.files:
        return [
            str(seen)
            for seen in detect(settings.path, split=settings.split, subset=settings.subset, revision=settings.revision)
        ]
    return [
        str(seen if str(path) == name else replace(seen, source=name))
        for path, name in found.files
        for seen in detect(path)
    ]


def _work(data: DataSettings, inputs: Sequence[Input]) -> Work:
    """Give the workers' settings."""
    share = 1.0 if any(found.heldout for found in inputs) else float(data.heldout_share)
    sources = tuple(
        SourceWork(
            found.settings.format,
            ReadOptions(found.settings.columns, data.prompt_completion),
            float(found.settings.weight),
            share if found.heldout == any(each.heldout for each in inputs) and data.heldout_max else 0.0,
        )
        for found in inputs
    )
    return Work(sources, data.on_bad_row, data.train_on != "all", data.inline_reasoning == "split")


def _nothing_to_train(ledger: Ledger, data: DataSettings) -> str:
    reasons = ", ".join(f"{reason} {tally.count}" for reason, tally in ledger.left_out.items()) or "no rows"
    said = next((tally.example for tally in ledger.left_out.values() if tally.example), "")
    if not said:
        longer = "raise data.max_tokens, or set data.too_long: keep_last_turns"
        said = longer if TOO_LONG in ledger.left_out else "check data and settings"
    where = ", ".join(source.path for source in data.sources)
    return f"{where}: no row is left to train on ({reasons}); expected at least one; {said}"
