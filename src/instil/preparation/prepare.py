"""`prepare`: turn a recipe's data into a store of examples, or open the store that is there.

The order: find the files and their formats, compute the store's key, and open the store if it exists. Otherwise cut the
rows into chunks, encode them, add up, decide the split, check the ledger, and put the finished store in place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

from instil.conversation import Conversation, Place
from instil.data.formats.pattern import check_columns
from instil.data.formats.row_format import ReadOptions
from instil.data.messages import conversation_from_dict
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import DataError, RecipeError
from instil.preparation.accounting import Account
from instil.preparation.cache_key import cache_folder, check_folder, file_hashes, fingerprint_of
from instil.preparation.chunks import Input, cut, draw_rows, find_input, rows_read
from instil.preparation.cluster.on_cluster import OnCluster
from instil.preparation.data_warnings import data_warnings
from instil.preparation.encode_pairs import TOO_LONG
from instil.preparation.encode_rows import EncodedChunk, SourceWork, Work
from instil.preparation.ledger import Ledger
from instil.preparation.store import ExampleStore
from instil.preparation.store_writer import StoreWriter
from instil.preparation.workers import Alone, Team, map_team_chunks, run_on_first
from instil.recipe import DataSettings, Reading, Recipe, reading_of, source_name
from instil.run_warning import RunWarning


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe's data, ready for training.

    Attributes:
        folder: The store's folder.
        train: Examples of one epoch.
        heldout: Examples to evaluate the loss on; may be empty.
        reused: Whether the store existed already.
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
        conversations = []
        for line in (self.folder / "heldout.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            place = None if row["place"] is None else Place(*row["place"])
            conversations.append(replace(conversation_from_dict(row["conversation"]), place=place))
        return conversations

    def warnings(self, data: DataSettings) -> list[RunWarning]:
        """Return what is probably wrong with the data of a recipe (see `data_warnings`)."""
        return data_warnings(self.ledger, self.heldout_ledger, wants_heldout=data.holds_out)

    def to_json(self) -> dict[str, object]:
        """Return the content of a run's ledger.json."""
        return {
            "fingerprint": self.fingerprint,
            **self.ledger.to_json(),
            "heldout": self.heldout_ledger.to_json(),
        }

    def lines(self) -> list[str]:
        """Return formats and ledgers as lines for people."""
        lines = [*self.ledger.evidence, *self.ledger.lines()]
        if self.heldout_ledger.rows_in:
            lines += ["held out:"] + [f"  {line}" for line in self.heldout_ledger.lines(used="evaluated")]
        return lines


def prepare(
    recipe: Recipe,
    chat: ChatTokenizer,
    *,
    workers: int | None = None,
    refresh: bool = False,
    on_progress: Callable[[int], None] | None = None,
    team: Team | None = None,
    say: Callable[[str], None] | None = None,
) -> Prepared:
    """Make the store of a recipe's data, or open it if it exists.

    Args:
        recipe: The recipe. Its `data` settings and its objective count, and the seed where rows are drawn.
        chat: Template, tokenizer and the encoder's settings.
        workers: Number of processes, instead of the recipe's. 1 is this process alone, 0 is one per core.
        refresh: Make the store again even if it exists.
        on_progress: Called now and then with the number of rows done.
        team: The processes that prepare it together; each of them calls this function. None for this process alone.
        say: Prints a line for the user, about a cluster; None prints nothing.

    Raises:
        RecipeError: If the recipe names no data, or with ``cluster: ray`` there is no cluster.
        DataError: If data cannot be found, nothing is trained, or, with ``on_bad_row: stop``, a row cannot be used.
        InstilError: An error of the template or the encoder for a row, with the row's place.
    """
    if not recipe.data.sources:
        raise RecipeError(
            "data.sources: found none. Expected at least one file, folder, glob or Hub id. Add one to the recipe."
        )
    team = team or Alone()
    on_cluster = OnCluster(say) if recipe.data.cluster == "ray" and team.rank == 0 else None
    plan = run_on_first(team, lambda: _plan(recipe, refresh=refresh, chat=chat, on_cluster=on_cluster))
    target = cache_folder(recipe) / plan.key
    if not plan.exists:
        workers = recipe.data.workers if workers is None else workers
        # A folder without a complete store is a damaged one, and is replaced.
        writer = StoreWriter(target, fingerprint=plan.key, replace=refresh or target.is_dir())
        reading = reading_of(recipe.training.objective)
        make = partial(
            _make, recipe.data, chat, plan, writer, reading=reading, workers=workers, on_progress=on_progress
        )
        if recipe.data.cluster == "none":
            make(team=team)
        else:
            run_on_first(team, lambda: make(team=Alone(), on_cluster=on_cluster))
    prepared = open_store(target)
    if prepared is None:
        raise DataError(
            f"{target}: this process sees no prepared data where the first process put it. "
            "Expected a folder that all processes share. Set data.store to one."
        )
    return replace(prepared, reused=plan.exists)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a store is made from.

    Attributes:
        key: The store's name.
        exists: Whether the store is there. The other fields are empty then.
        inputs: The sources.
        evidence: The format of each file and the reason for it, one line each.
    """

    key: str
    exists: bool
    inputs: tuple[Input, ...] = ()
    evidence: tuple[str, ...] = ()


def _plan(recipe: Recipe, *, chat: ChatTokenizer, refresh: bool, on_cluster: OnCluster | None) -> _Plan:
    folder = cache_folder(recipe)
    check_folder(folder)
    inputs = [find_input(source, heldout=False, spool=folder) for source in recipe.data.sources]
    inputs += [find_input(source, heldout=True, spool=folder) for source in recipe.data.heldout]
    # Settings are checked before any file is hashed or read: a wrong one should be reported at once.
    for source in inputs:
        if source.settings.columns or source.settings.format == "pattern":
            check_columns(source.settings.columns)
    watch = None if on_cluster is None else on_cluster.watching(inputs)
    key = fingerprint_of(recipe, inputs, encoder=chat.fingerprint + _day(recipe, chat), watch=watch)
    if not refresh and open_store(folder / key) is not None:
        file_hashes(folder).save()
        return _Plan(key, exists=True)
    # Drawing reads every row of a source, so it waits until the store is known to be missing.
    drawn = tuple(draw_rows(source, seed=recipe.training.seed + number) for number, source in enumerate(inputs))
    reading = reading_of(recipe.training.objective)
    evidence = tuple(line for source in drawn for line in source.evidence(reading))
    return _Plan(key, exists=False, inputs=drawn, evidence=evidence)


def _make(
    data: DataSettings,
    chat: ChatTokenizer,
    plan: _Plan,
    writer: StoreWriter,
    *,
    reading: Reading,
    workers: int,
    team: Team,
    on_progress: Callable[[int], None] | None,
    on_cluster: OnCluster | None = None,
) -> None:
    """Encode every row, each process its share. The first process writes the store and puts it in place."""
    account = Account(plan.inputs, data, reading=reading)

    def take(results: Sequence[EncodedChunk]) -> None:
        for encoded in results:
            writer.write(encoded.batch)
            account.add(encoded)
        if on_progress is not None:
            on_progress(account.num_rows)

    with writer, rows_read(plan.inputs, what="encoding") as rows:
        work = _work(data, plan.inputs, reading)
        if on_cluster is None:
            chunks = rows.counted(cut(plan.inputs))
            map_team_chunks(chunks, chat, work, workers=workers, team=team, take=take)
            run_on_first(team, lambda: _settle(writer, account, plan.evidence, data))
            return
        with on_cluster.encoded(plan.inputs, chat, work, store=writer.folder, workers=workers, rows=rows, take=take):
            _settle(writer, account, plan.evidence, data)


def _settle(writer: StoreWriter, account: Account, evidence: Sequence[str], data: DataSettings) -> None:
    """Decide the split, check the ledger, and put the store in place."""
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
    """Return today's date if the template prints it and the recipe sets none: the store is then valid for that day."""
    return date.today().isoformat() if recipe.data.date is None and chat.template.prints_day else ""


def open_store(folder: Path) -> Prepared | None:
    """Open a store; return None if there is none, or it is damaged or of another version."""
    if not folder.is_dir():
        return None
    try:
        train, heldout = (ExampleStore.open(folder, split=split) for split in ("train", "heldout"))
    except DataError:
        return None
    return Prepared(folder, train, heldout, reused=True)


def _work(data: DataSettings, inputs: Sequence[Input], reading: Reading) -> Work:
    """Return the workers' settings."""
    has_heldout = any(source.heldout for source in inputs)
    share = 1.0 if has_heldout else float(data.heldout_share)
    sources = tuple(
        SourceWork(
            source.settings.format,
            ReadOptions(source.settings.columns, data.prompt_completion, reading, data.rejected),
            float(source.settings.weight),
            share if source.heldout == has_heldout and data.heldout_max else 0.0,
        )
        for source in inputs
    )
    return Work(sources, data.on_bad_row, data.train_on != "all", data.inline_reasoning == "split")


def _nothing_to_train(ledger: Ledger, data: DataSettings) -> str:
    """Return the error's text; its remedy is that of the first row left out, where that row had an error."""
    paths = ", ".join(source_name(source.path) for source in data.sources)
    reasons = ", ".join(f"{reason} {tally.count}" for reason, tally in ledger.left_out.items()) or "no rows"
    remedy = next((tally.example for tally in ledger.left_out.values() if tally.example), "")
    if remedy:
        remedy = f"The first: {remedy}"
    elif TOO_LONG in ledger.left_out:
        remedy = "Raise data.max_tokens, or set data.too_long: keep_last_turns."
    else:
        remedy = "Check the data and its settings."
    return f"{paths}: no row is left to train on ({reasons}). Expected at least one. {remedy}"
