"""The ledger: what became of every row.

Rows in = rows trained + rows left out, by reason and with places; rows held out for evaluation are left out of training,
for the reason ``held out``. Preparation fills it, `Ledger.assert_balanced` checks it, every run saves it. Questionable on
purpose: it is the one record that changes while it is made; a count that were rebuilt for every row would cost more than
the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from instil.errors import DataError
from instil.units import counted

HELD_OUT = "held out"
DUPLICATE = "duplicate"
NOT_DRAWN = "not drawn"
MAX_PLACES = 20
"""Places listed for one reason; the count goes on."""
_NOTES = {
    "reasoning_ignored": ("turn has", "turns have", "reasoning that the template does not print"),
    "untrained_turns": (
        "assistant turn opens its conversation",
        "assistant turns open their conversations",
        "without a prompt that could ask for it: context, not trained",
    ),
    "trailing_turns": (
        "conversation ends",
        "conversations end",
        "with another turn than the assistant's; that turn is not used",
    ),
    "history_rewritten": (
        "conversation needs",
        "conversations need",
        "more than one example, because the template changes earlier turns",
    ),
    "dropped": (
        "example is",
        "examples are",
        "left out, being too long (data.max_tokens, data.too_long)",
    ),
}
"""What the encoder counted: the words behind one, behind more, and what follows."""


@dataclass(slots=True)
class Tally:
    """A count, and where.

    Attributes:
        count: How many.
        places: The first `MAX_PLACES` places.
        example: What was said about the first one.
    """

    count: int = 0
    places: list[str] = field(default_factory=list)
    example: str = ""

    def add(self, place: object, *, count: int = 1, example: str = "") -> None:
        """Count one more at a place; a place is listed once."""
        self.count += count
        if len(self.places) < MAX_PLACES and place is not None and str(place) not in self.places:
            self.places.append(str(place))
        self.example = self.example or example


@dataclass(slots=True)
class Ledger:
    """The account of one set of rows.

    Attributes:
        rows_in: Rows that the sources hold.
        rows_trained: Rows of which at least one token is trained (in the account of held-out data: is evaluated).
        left_out: Rows left out, by reason.
        parts_left_out: Conversations left out of rows that are trained otherwise, by reason.
        conversations: Conversations read from the rows that are trained.
        examples: Examples made of them, before repetition.
        examples_an_epoch: Examples that one epoch sees, with repetition.
        tokens: Tokens of all examples.
        conversation_tokens: Tokens of each conversation's longest example, summed.
        trained_tokens: Tokens with a weight above 0.
        trained_weight: Sum of all weights.
        shortened: Examples shortened, by how.
        escaped: Control tokens typed in the data that became ordinary text.
        inline_reasoning: Conversations whose answers carry reasoning in their text.
        duplicates: Rows whose content came before, left out or not.
        overlap: Trained rows whose content is also in the held-out data.
        formats: Rows by the format they were read as.
        evidence: What each file was seen to be, and why.
        notes: Anything else a person should know.
    """

    rows_in: int = 0
    rows_trained: int = 0
    left_out: dict[str, Tally] = field(default_factory=dict)
    parts_left_out: dict[str, Tally] = field(default_factory=dict)
    conversations: int = 0
    examples: int = 0
    examples_an_epoch: int = 0
    tokens: int = 0
    conversation_tokens: int = 0
    trained_tokens: int = 0
    trained_weight: float = 0.0
    shortened: dict[str, Tally] = field(default_factory=dict)
    escaped: Tally = field(default_factory=Tally)
    inline_reasoning: Tally = field(default_factory=Tally)
    duplicates: Tally = field(default_factory=Tally)
    overlap: Tally = field(default_factory=Tally)
    formats: dict[str, int] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows_left_out(self) -> int:
        """Number of rows that are not trained, for whatever reason."""
        return sum(tally.count for tally in self.left_out.values())

    @property
    def rows_held_out(self) -> int:
        """Number of rows held out for evaluation."""
        return self.left_out[HELD_OUT].count if HELD_OUT in self.left_out else 0

    @property
    def token_factor(self) -> float:
        """Tokens of all examples over tokens of the conversations: above 1 where a template rewrites history."""
        return self.tokens / self.conversation_tokens if self.conversation_tokens else 1.0

    def leave_out(self, reason: str, place: object, *, count: int = 1, example: str = "") -> None:
        """Count rows that are left out."""
        self.left_out.setdefault(reason, Tally()).add(place, count=count, example=example)

    def assert_balanced(self) -> None:
        """Check that every row is accounted for.

        Raises:
            DataError: If rows in are not rows trained plus rows left out, or there are fewer examples than rows trained.

        Example:
            >>> Ledger(rows_in=2, rows_trained=1).assert_balanced()
            Traceback (most recent call last):
            instil.errors.DataError: ledger: 2 rows in, but 1 trained + 0 left out = 1; this is a fault of instil; report it
        """
        accounted = self.rows_trained + self.rows_left_out
        if self.rows_in != accounted:
            raise DataError(
                f"ledger: {self.rows_in} rows in, but {self.rows_trained} trained + {self.rows_left_out} left out = "
                f"{accounted}; this is a fault of instil; report it"
            )
        if self.examples < self.rows_trained:
            raise DataError(
                f"ledger: {self.examples} examples for {self.rows_trained} rows trained; expected at least as many; "
                "this is a fault of instil; report it"
            )

    def to_json(self) -> dict[str, Any]:
        """Give the ledger as JSON values; `from_json` reads it back."""
        return asdict(self) | {
            "rows_left_out": self.rows_left_out,
            "rows_held_out": self.rows_held_out,
            "token_factor": round(self.token_factor, 4),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Ledger:
        """Read a saved ledger.

        Example:
            >>> ledger = Ledger(rows_in=1)
            >>> ledger.leave_out("empty", "a.jsonl:1")
            >>> Ledger.from_json(ledger.to_json()) == ledger
            True
        """
        values: dict[str, Any] = {each.name: given[each.name] for each in fields(cls) if each.name in given}
        for name in ("left_out", "parts_left_out", "shortened"):
            values[name] = {reason: Tally(**tally) for reason, tally in values.get(name, {}).items()}
        for name in ("escaped", "inline_reasoning", "duplicates", "overlap"):
            values[name] = Tally(**values.get(name, {}))
        return cls(**values)

    def lines(self, *, used: str = "trained") -> list[str]:
        r"""Give the ledger as lines of text for people; `used` is what happened to the rows that were not left out.

        Example:
            >>> ledger = Ledger(rows_in=3, rows_trained=2, conversations=2, examples=2, tokens=20, trained_tokens=8)
            >>> ledger.leave_out("unknown format", "a.jsonl:3")
            >>> print("\n".join(ledger.lines()[:2]))
            rows in          3 = 2 trained + 1 left out
              left out       1  unknown format (a.jsonl:3)
        """
        written = [
            f"rows in          {self.rows_in:,} = {self.rows_trained:,} {used} + {self.rows_left_out:,} left out"
        ]
        written += [_line("left out", reason, tally) for reason, tally in sorted(self.left_out.items())]
        written += [_line("parts left out", reason, tally) for reason, tally in sorted(self.parts_left_out.items())]
        again = f"; {self.examples_an_epoch:,} an epoch" if self.examples_an_epoch != self.examples else ""
        written.append(f"examples         {self.examples:,} of {counted(self.conversations, 'conversation')}{again}")
        share = self.trained_tokens / self.tokens if self.tokens else 0.0
        written.append(f"tokens           {self.tokens:,}, of which {self.trained_tokens:,} trained ({share:.1%})")
        factor = self.token_factor
        if factor > 1.005:
            warning = "; the template rewrites history, see data.history_rewritten" if factor > 3 else ""
            written.append(f"token factor     {factor:.2f}{warning}")
        written += [_line("shortened", how, tally) for how, tally in sorted(self.shortened.items())]
        for label, reason, tally in (
            ("escaped", "typed control token{s} made ordinary text", self.escaped),
            ("reasoning", "conversation{s} with reasoning inside the answer", self.inline_reasoning),
            ("duplicates", "row{s} whose content came before", self.duplicates),
            ("overlap", "trained row{s} also held out", self.overlap),
        ):
            if tally.count:
                written.append(_line(label, reason.format(s="" if tally.count == 1 else "s"), tally))
        if len(self.formats) > 1:
            written.append(
                "formats          " + ", ".join(f"{name} {count:,}" for name, count in sorted(self.formats.items()))
            )
        return written + [f"note             {note}" for note in self.notes]


def encoder_notes(report: Mapping[str, int]) -> list[str]:
    """Give the notes on what the encoder counted, by the names of `EncodingReport`.

    Example:
        >>> encoder_notes({"reasoning_ignored": 1, "conversations": 4})
        ['1 turn has reasoning that the template does not print']
    """
    return [
        f"{counted(report[name], one, many)} {rest}" for name, (one, many, rest) in _NOTES.items() if report.get(name)
    ]


def _line(label: str, reason: str, tally: Tally) -> str:
    return f"  {label:<15}{tally.count:,}  {reason}{_places(tally.places, tally.count)}"


def _places(places: Iterable[str], count: int) -> str:
    shown = list(places)[:3]
    if not shown:
        return ""
    return f" ({', '.join(shown)}{' …' if count > len(shown) else ''})"
