"""The ledger: an account of every row.

Rows in = rows trained + rows left out, by reason and with places. Held-out rows are left out of training, with the
reason ``held out``. `accounting` fills the ledger, `Ledger.assert_balanced` checks it, and every run saves it.

Why: this record can change while it is filled, because a new record per row would cost more than the row itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from instil.errors import DataError
from instil.recipe import Reading
from instil.units import counted

HELD_OUT = "held out"
DUPLICATE = "duplicate"
NOT_DRAWN = "not drawn"
MAX_PLACES = 20
"""Number of places listed for one reason; the count has no limit."""
_NOTES = {
    "reasoning_ignored": ("turn has", "turns have", "reasoning that the template does not print"),
    "dropped_text": ("text is", "texts are", "not printed by the template (data.dropped_text: accept)"),
    "developer_as_system": (
        "developer message is",
        "developer messages are",
        "given to the template as system, because it knows no developer",
    ),
    "untrained_turns": (
        "assistant turn opens its conversation",
        "assistant turns open their conversations",
        "without a prompt before it: used as context, not trained",
    ),
    "trailing_turns": (
        "conversation ends",
        "conversations end",
        "with a turn that is not the assistant's; that turn is not used",
    ),
    "history_rewritten": (
        "conversation needs",
        "conversations need",
        "more than one example, because the template changes earlier turns",
    ),
    "dropped": (
        "example is",
        "examples are",
        "left out for length (data.max_tokens, data.too_long)",
    ),
}
"""Words for each of the encoder's counts: after 1, after any other number, and the rest of the sentence."""


@dataclass(slots=True)
class Tally:
    """A count with places.

    Attributes:
        count: The number counted.
        places: The first `MAX_PLACES` places.
        example: The message of the first one.
    """

    count: int = 0
    places: list[str] = field(default_factory=list)
    example: str = ""

    def add(self, place: object, *, count: int = 1, example: str = "") -> None:
        """Add to the count. A place is listed once."""
        self.count += count
        if len(self.places) < MAX_PLACES and place is not None and str(place) not in self.places:
            self.places.append(str(place))
        self.example = self.example or example


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one side of preference data.

    Attributes:
        count: Their number.
        tokens: Their trained tokens.
    """

    count: int = 0
    tokens: int = 0

    @property
    def mean(self) -> float:
        """Trained tokens of an answer, on average."""
        return self.tokens / self.count if self.count else 0.0


@dataclass(slots=True)
class Ledger:
    """The account of one set of rows.

    Attributes:
        rows_in: Rows in the sources.
        rows_trained: Rows with at least one trained token. In the account of held-out data: with one evaluated token.
        left_out: Rows left out, by reason.
        parts_left_out: Conversations left out of rows that are trained otherwise, by reason.
        conversations: Conversations of the trained rows.
        examples: Examples of these conversations, before repetition.
        examples_an_epoch: Examples in one epoch, with repetition.
        tokens: Tokens of all examples.
        conversation_tokens: Sum of the tokens of each conversation's longest example.
        trained_tokens: Tokens with a weight above 0.
        trained_weight: Sum of all weights.
        shortened: Examples shortened, by method.
        escaped: Control tokens typed in the data that became ordinary text. The places are rows.
        inline_reasoning: Rows with reasoning in the text of an answer.
        part_weights: Rows with weights of parts of an answer.
        rendered: Rows whose rendered text was read back into messages, by the template that prints it.
        duplicates: Rows with the content of an earlier row, left out or not.
        overlap: Trained rows whose content is also in the held-out data. In the account of held-out data: evaluated
            rows whose content is also trained.
        formats: Number of rows by format.
        evidence: The format of each file and the reason for it.
        notes: Other notes for people.
        reading: How the rows were read: answers to imitate, pairs, or judged answers.
        chosen: Of preferences, the better answers, or those judged good.
        rejected: Of preferences, the worse answers, or those judged bad.
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
    part_weights: Tally = field(default_factory=Tally)
    rendered: dict[str, Tally] = field(default_factory=dict)
    duplicates: Tally = field(default_factory=Tally)
    overlap: Tally = field(default_factory=Tally)
    formats: dict[str, int] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reading: Reading = "sft"
    chosen: Answers = Answers()
    rejected: Answers = Answers()

    @property
    def rows_left_out(self) -> int:
        """Number of rows left out, for any reason."""
        return sum(tally.count for tally in self.left_out.values())

    @property
    def rows_held_out(self) -> int:
        """Number of rows held out for evaluation."""
        return self.left_out[HELD_OUT].count if HELD_OUT in self.left_out else 0

    @property
    def token_factor(self) -> float:
        """Tokens of all examples divided by tokens of the conversations: above 1 if a template rewrites history."""
        return self.tokens / self.conversation_tokens if self.conversation_tokens else 1.0

    def leave_out(self, reason: str, place: object, *, count: int = 1, example: str = "") -> None:
        """Count rows left out for a reason."""
        self.left_out.setdefault(reason, Tally()).add(place, count=count, example=example)

    def assert_balanced(self) -> None:
        """Check that every row is accounted for.

        Raises:
            DataError: If rows in differ from rows trained plus rows left out, there are too few examples, or an answer
                of a pair is missing.

        Example:
            >>> Ledger(rows_in=2, rows_trained=1).assert_balanced()
            Traceback (most recent call last):
            instil.errors.DataError: ledger: 2 rows in, but 1 trained + 0 left out = 1. A bug in instil: report it.
        """
        accounted = self.rows_trained + self.rows_left_out
        if self.rows_in != accounted:
            raise DataError(
                f"ledger: {self.rows_in} rows in, but {self.rows_trained} trained + {self.rows_left_out} left out = "
                f"{accounted}. A bug in instil: report it."
            )
        if self.examples < self.rows_trained:
            raise DataError(
                f"ledger: {self.examples} examples for {self.rows_trained} rows trained. Expected at least as many. "
                "A bug in instil: report it."
            )
        if self.reading == "pairs" and not self.chosen.count == self.rejected.count == self.examples / 2:
            raise DataError(
                f"ledger: {self.chosen.count} chosen and {self.rejected.count} rejected answers in {self.examples} "
                "examples. Expected as many of both. A bug in instil: report it."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the ledger as JSON values for `from_json`."""
        return asdict(self) | {
            "rows_left_out": self.rows_left_out,
            "rows_held_out": self.rows_held_out,
            "token_factor": round(self.token_factor, 4),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Ledger:
        """Return the ledger that `to_json` saved. Unknown keys are ignored, missing ones are empty.

        Example:
            >>> ledger = Ledger(rows_in=1)
            >>> ledger.leave_out("empty", "a.jsonl:1")
            >>> Ledger.from_json(ledger.to_json()) == ledger
            True
        """
        values: dict[str, Any] = {field.name: saved[field.name] for field in fields(cls) if field.name in saved}
        for name in ("left_out", "parts_left_out", "shortened", "rendered"):
            values[name] = {reason: Tally(**tally) for reason, tally in values.get(name, {}).items()}
        for name in ("escaped", "inline_reasoning", "part_weights", "duplicates", "overlap"):
            values[name] = Tally(**values.get(name, {}))
        for name in ("chosen", "rejected"):
            values[name] = Answers(**values.get(name, {}))
        return cls(**values)

    def lines(self, *, used: str = "trained") -> list[str]:
        r"""Return the ledger as lines of text for people.

        Args:
            used: The word for rows that were not left out.

        Example:
            >>> ledger = Ledger(rows_in=3, rows_trained=2, conversations=2, examples=2, tokens=20, trained_tokens=8)
            >>> ledger.leave_out("unknown format", "a.jsonl:3")
            >>> print("\n".join(ledger.lines()[:2]))
            rows in          3 = 2 trained + 1 left out
              left out       1  unknown format (a.jsonl:3)
        """
        lines = [f"rows in          {self.rows_in:,} = {self.rows_trained:,} {used} + {self.rows_left_out:,} left out"]
        lines += [_line("left out", reason, tally) for reason, tally in sorted(self.left_out.items())]
        lines += [_line("parts left out", reason, tally) for reason, tally in sorted(self.parts_left_out.items())]
        lines += self._examples()
        share = self.trained_tokens / self.tokens if self.tokens else 0.0
        lines.append(f"tokens           {self.tokens:,}, of which {self.trained_tokens:,} trained ({share:.1%})")
        # What follows is listed only where it occurs, so that an ordinary ledger stays short.
        factor = self.token_factor
        if factor > 1.005:
            warning = "; the template rewrites history, see data.history_rewritten" if factor > 3 else ""
            lines.append(f"token factor     {factor:.2f}{warning}")
        lines += [_line("shortened", how, tally) for how, tally in sorted(self.shortened.items())]
        lines += [
            _line("read back", f"{'row' if tally.count == 1 else 'rows'} of text rendered with {template}", tally)
            for template, tally in sorted(self.rendered.items())
        ]
        lines += [
            _line(label, one if tally.count == 1 else many, tally) for label, one, many, tally in self._counts(used)
        ]
        if len(self.formats) > 1:
            formats = ", ".join(f"{name} {count:,}" for name, count in sorted(self.formats.items()))
            lines.append(f"formats          {formats}")
        return lines + [f"note             {note}" for note in self.notes]

    def _examples(self) -> list[str]:
        """Return the lines on the number of examples: of conversations, pairs or judged answers."""
        size = 2 if self.reading == "pairs" else 1
        count, an_epoch = self.examples // size, self.examples_an_epoch // size
        repeated = f"; {an_epoch:,} an epoch" if an_epoch != count else ""
        if self.reading == "sft":
            return [f"examples         {count:,} of {counted(self.conversations, 'conversation')}{repeated}"]
        chosen, rejected = self.chosen, self.rejected
        if self.reading == "pairs":
            lines, names = [f"pairs            {count:,}{repeated}"], ("chosen", "rejected")
        else:
            lines = [f"judged answers   {count:,}: {chosen.count:,} good, {rejected.count:,} bad{repeated}"]
            names = ("good", "bad")
        means = f"{chosen.mean:.1f} tokens {names[0]}, {rejected.mean:.1f} {names[1]}"
        return [*lines, f"mean answer      {means}"]

    def _counts(self, used: str) -> Iterator[tuple[str, str, str, Tally]]:
        """Yield label, words for one, words for more, and tally of what was counted at least once."""
        typed = "made ordinary text"
        other = "held out" if used == "trained" else "trained"
        # Training and held-out rows have an account each, so the two counts together are those of `inspect`.
        kept = "" if DUPLICATE in self.left_out else "trained " if used == "trained" else "held-out "
        rows = (
            ("escaped", f"typed control token {typed}", f"typed control tokens {typed}", self.escaped),
            ("reasoning", "row with reasoning in an answer", "rows with reasoning in an answer", self.inline_reasoning),
            ("part weights", "row with weights of parts", "rows with weights of parts", self.part_weights),
            (
                "duplicates",
                f"{kept}row equal to an earlier one",
                f"{kept}rows equal to an earlier one",
                self.duplicates,
            ),
            ("overlap", f"{used} row also {other}", f"{used} rows also {other}", self.overlap),
        )
        return (row for row in rows if row[-1].count)


def rejected_notes(ledger: Ledger) -> list[str]:
    """Return a note where rows have a rejected answer and only the chosen one is trained.

    Example:
        >>> rejected_notes(Ledger(formats={"preference": 2}))[0]
        '2 rows have a chosen and a rejected answer: the chosen one is trained, the rejected one is not (training.objective: dpo learns from both)'
    """
    count = ledger.formats.get("preference", 0)
    if ledger.reading != "sft" or not count:
        return []
    have = counted(count, "row has", "rows have")
    return [
        f"{have} a chosen and a rejected answer: the chosen one is trained, the rejected one is not "
        "(training.objective: dpo learns from both)"
    ]


def encoder_notes(report: Mapping[str, int]) -> list[str]:
    """Return notes on the encoder's counts, which have the names of `EncodingReport`.

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
