"""Warnings about a recipe's data, from its ledgers: what training would see is not what the user thinks it is.

Training, `plan`, `prepare` and `inspect` show the same warnings, because all of them have the ledgers.
"""

from __future__ import annotations

from collections.abc import Iterator

from instil.preparation.encode_pairs import TOO_LONG
from instil.preparation.ledger import DUPLICATE, HELD_OUT, NOT_DRAWN, Ledger
from instil.run_warning import RunWarning
from instil.units import counted

FEWEST_HELD_OUT = 20
"""With fewer examples the held-out loss moves more from chance than from training."""
LARGEST_OVERLAP = 0.05
"""Share of the held-out rows. Up to here, rows seen in training move the held-out loss less than chance does."""
LARGEST_LOSS = 0.1
"""Share of the rows left out for one reason. The rest is then no longer the data that was collected: what is too long
are the long answers."""
LARGEST_REPETITION = 0.2
"""Share of rows equal to earlier ones. Collected data has some; more comes from a file that is named twice."""
LARGEST_BIAS = 1.5
"""Mean length of the better answers, divided by that of the worse ones. Above it, length predicts preference well."""
MEANT = (HELD_OUT, NOT_DRAWN, DUPLICATE)
"""Reasons that the recipe chose itself."""


def data_warnings(
    ledger: Ledger,
    heldout: Ledger,
    *,
    wants_heldout: bool,
    listed: str = "instil inspect lists them with their reasons",
) -> list[RunWarning]:
    """Return what is probably wrong with the data, the most serious first.

    Args:
        ledger: The account of the rows to train on.
        heldout: The account of the held-out rows.
        wants_heldout: Whether the recipe holds any row out.
        listed: Where the rows that are left out can be seen.

    Example:
        >>> ledger = Ledger(rows_in=10, rows_trained=4)
        >>> ledger.leave_out("too long", "rows.jsonl:2", count=6)
        >>> [(warning.kind, warning.figure) for warning in data_warnings(ledger, Ledger(), wants_heldout=True)]
        [('rows_left_out', 0.6), ('few_heldout', 0)]
    """
    return [
        *_heldout_is_trained(heldout),
        *_left_out(ledger, "to train on", listed),
        *_left_out(heldout, "held out", listed),
        *_shortened(ledger),
        *_repeated(ledger),
        *_length_bias(ledger),
        *_one_sided(ledger),
        *(_few_heldout(heldout) if wants_heldout else ()),
    ]


def _heldout_is_trained(heldout: Ledger) -> Iterator[RunWarning]:
    share = heldout.overlap.count / max(1, heldout.rows_trained)
    if share > LARGEST_OVERLAP:
        how_many = "the held-out data is the training data" if share > 0.9 else "held-out rows are also trained"
        yield RunWarning(
            "heldout_is_trained",
            f"{how_many}: {heldout.overlap.count:,} of {counted(heldout.rows_trained, 'held-out row')} ({share:.0%}). "
            "The held-out loss then shows what was memorised. Remove these rows from one side, or leave data.heldout "
            "out and let data.heldout_share choose",
            share,
        )


def _left_out(ledger: Ledger, which: str, listed: str) -> Iterator[RunWarning]:
    for reason, tally in ledger.left_out.items():
        share = tally.count / max(1, ledger.rows_in)
        if reason in MEANT or share <= LARGEST_LOSS:
            continue
        most = "most rows" if share > 0.5 else "many rows"
        remedy = listed
        if reason == TOO_LONG:
            remedy = "Raise data.max_tokens, or set data.too_long: keep_last_turns"
        yield RunWarning(
            "rows_left_out",
            f"{most} {which} are left out ({reason}): {tally.count:,} of {ledger.rows_in:,} ({share:.0%}). {remedy}",
            share,
        )


def _shortened(ledger: Ledger) -> Iterator[RunWarning]:
    # Pieces of plain text lose nothing.
    shortened = {how: tally.count for how, tally in ledger.shortened.items() if how != "split"}
    count = sum(shortened.values())
    share = count / max(1, ledger.examples)
    if share > LARGEST_LOSS:
        yield RunWarning(
            "examples_shortened",
            f"many examples are shortened: {count:,} of {ledger.examples:,} ({share:.0%}; "
            f"{', '.join(shortened)}). Raise data.max_tokens if the model's context allows it",
            share,
        )


def _repeated(ledger: Ledger) -> Iterator[RunWarning]:
    share = ledger.duplicates.count / max(1, ledger.rows_in)
    if share > LARGEST_REPETITION and DUPLICATE not in ledger.left_out:
        yield RunWarning(
            "rows_repeated",
            f"many rows are equal to earlier ones: {ledger.duplicates.count:,} of {ledger.rows_in:,} ({share:.0%}). "
            "Name each file once, or set data.deduplicate: true",
            share,
        )


def _length_bias(ledger: Ledger) -> Iterator[RunWarning]:
    good, bad = ledger.chosen.mean, ledger.rejected.mean
    if ledger.reading == "sft" or not (good and bad) or 1 / LARGEST_BIAS <= good / bad <= LARGEST_BIAS:
        return
    names = ("chosen", "rejected") if ledger.reading == "pairs" else ("good", "bad")
    how = "longer" if good > bad else "shorter"
    yield RunWarning(
        "length_bias",
        f"{names[0]} answers are {how} than {names[1]} ones: {good:,.0f} against {bad:,.0f} tokens on average "
        f"({good / bad:.1f} times). The model then learns to write {how} answers too. Choose answers of like lengths, or "
        "an objective that divides by the length: simpo, or dpo with preference.length_normalized: true",
        good / bad,
    )


def _one_sided(ledger: Ledger) -> Iterator[RunWarning]:
    sides = {"good": ledger.chosen.count, "bad": ledger.rejected.count}
    if ledger.reading == "judged" and ledger.examples and 0 in sides.values():
        only, other = ("good", "bad") if sides["good"] else ("bad", "good")
        yield RunWarning(
            "one_sided",
            f"every answer is judged {only}, so nothing tells good from bad. Expected both. "
            f"Add answers that are judged {other}",
            ledger.examples,
        )


def _few_heldout(heldout: Ledger) -> Iterator[RunWarning]:
    count, name = (heldout.chosen.count, "pair") if heldout.reading == "pairs" else (heldout.examples, "example")
    if count >= FEWEST_HELD_OUT:
        return
    found = counted(count, f"{name} is", f"{name}s are") if count else "nothing is"
    then = "its loss moves by chance" if count else "nothing shows when the model begins to memorise"
    yield RunWarning(
        "few_heldout",
        f"{found} held out: {then}. Expected at least {FEWEST_HELD_OUT}. "
        "Name rows in data.heldout, or raise data.heldout_share",
        count,
    )
