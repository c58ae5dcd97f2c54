"""Findings about the data: each has a kind, a place and a description, and every kind has a remedy.

`doctor` and `survey` add them, `report` and `page` show them.

Why: counts are exact, but only the first findings of a kind are kept with their places. A file with a million faults
then takes no more memory than one with a thousand. The report gives the number of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from instil.conversation import Place

Severity = Literal["error", "warning", "note"]
SEVERITY_STYLES: Mapping[Severity, str] = {"error": "bold red", "warning": "bold yellow", "note": "bold"}
"""How the terminal shows each."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Attributes:
        name: Its name in JSON and in filters.
        title: Its name for people.
        severity: ``error``: the row is not trained, or not as written. ``warning``: it trains something that was
            probably not intended. ``note``: for information.
        remedy: What to do about it.
        repaired: Whether ``--fix`` fixes it.
        reasoned: Whether what is found is the text of an error, which ends with a remedy of its own.
    """

    name: str
    title: str
    severity: Severity
    remedy: str
    repaired: bool = False
    reasoned: bool = False


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("misspelt_key", "misspelt key", "error", "rename the key", repaired=True),
        Kind("unknown_role", "unknown role", "error", "use system, user, assistant or tool", repaired=True),
        Kind(
            "unreadable",
            "row cannot be read",
            "error",
            "do what the reason says, or remove the row",
            repaired=True,
            reasoned=True,
        ),
        Kind(
            "unknown_format",
            "columns in no known format",
            "error",
            "do what the reason says: name the columns with data.columns, or the format with data.format",
            reasoned=True,
        ),
        # Why not reasoned: a template's own refusal has no remedy.
        Kind(
            "refused", "rejected by the template or the encoder", "error", "do what the reason says, or remove the row"
        ),
        Kind(
            "rendered",
            "already rendered, and not readable as messages",
            "error",
            "write the messages, or set data.rendered_rows: keep",
            reasoned=True,
        ),
        Kind(
            "dropped_text",
            "text that the template does not print",
            "error",
            "choose another template, remove the text, or set data.dropped_text: accept",
            reasoned=True,
        ),
        Kind("no_answer", "no assistant turn", "error", "remove the row: nothing in it can be trained", repaired=True),
        Kind(
            "empty_answer", "empty answer", "warning", "remove it: it trains the model to answer nothing", repaired=True
        ),
        Kind(
            "over_limit",
            "longer than the limit",
            "warning",
            "raise data.max_tokens, or set data.too_long: keep_last_turns",
        ),
        Kind(
            "no_pair",
            "answers that are no pair",
            "error",
            "do what the reason says, or remove the row",
            reasoned=True,
        ),
        Kind(
            "short_chosen",
            "chosen answer of hardly any text",
            "warning",
            "check that the answer is whole, and not a label or a cell that was cut",
        ),
        Kind(
            "contradiction",
            "same answers with the opposite judgement",
            "warning",
            "remove one of the two rows, or both: together they teach nothing",
        ),
        Kind("split_text", "text cut into several examples", "note", "nothing to do: every piece is trained"),
        Kind(
            "cut_answer", "answer looks cut off", "warning", "generate it again with a higher limit, or remove the row"
        ),
        Kind(
            "missing_stop",
            "stop token not trained",
            "warning",
            "choose a template that ends the turn, or a limit that does not cut the answer",
        ),
        Kind(
            "typed_stop",
            "stop token typed at the end of an answer",
            "warning",
            "remove it from the text: the template prints the real one",
            repaired=True,
        ),
        Kind(
            "control_tokens",
            "control tokens typed in the text",
            "note",
            "nothing to do: they are trained as ordinary text",
        ),
        Kind(
            "unread_column",
            "column that looks like a system text, tools or an image, and is not read",
            "warning",
            "rename a text to system and definitions to tools, or drop the column",
        ),
        Kind(
            "read_back",
            "already rendered, and read back into messages",
            "note",
            "nothing to do: the messages are trained",
            repaired=True,
        ),
        Kind(
            "untrained_weight",
            "weight of a turn that is not the assistant's",
            "warning",
            "only the assistant's turns are trained; set data.train_on: all to train every token",
        ),
        Kind(
            "says_nothing",
            "text that says nothing, such as N/A or None",
            "warning",
            "remove the row, or the turn: a missing value was written as text",
        ),
        Kind("placeholder", "unfilled placeholder", "warning", "fill it in, or remove the row"),
        Kind("empty_question", "empty question", "warning", "remove the row: it trains an answer to nothing"),
        Kind(
            "mojibake",
            "text read in a wrong encoding",
            "warning",
            "undo it, and check how the file was made",
            repaired=True,
        ),
        Kind(
            "lost_characters",
            "characters lost when the text was read",
            "warning",
            "make the file again from its source: nothing can bring them back",
        ),
        Kind("role_order", "roles out of order", "warning", "put the turns in order, or check how the file was made"),
        Kind(
            "unused_reasoning",
            "reasoning that the template leaves out",
            "warning",
            "use a template that prints reasoning",
        ),
        Kind(
            "accepted_loss",
            "trained without a text that the template does not print",
            "note",
            "nothing to do if that is intended: data.dropped_text is accept",
        ),
        Kind("duplicate", "exact duplicate", "warning", "remove it, or set data.deduplicate: true", repaired=True),
        Kind("near_duplicate", "near-duplicate", "note", "keep one of them, unless the repetition is intended"),
        Kind(
            "repeated_answer",
            "same answer to many questions",
            "warning",
            "check that the answers were joined to the right rows",
        ),
        Kind("loop", "text repeats itself", "warning", "remove the row: it trains the model to loop"),
        Kind(
            "token_factor",
            "tokens multiplied by rewritten history",
            "warning",
            "set data.history_rewritten: last_turn to train only the last group of turns",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of one row.

    Attributes:
        kind: A name in `KINDS`.
        place: The row; None if the finding is about all rows.
        seen: What was found there, for people.
    """

    kind: str
    place: Place | None
    seen: str

    @property
    def explanation(self) -> str:
        """What was found, as a sentence with its full stop.

        Example:
            >>> Finding("refused", None, "one call at once!").explanation, Finding("loop", None, "twice").explanation
            ('one call at once!', 'twice.')
        """
        return self.seen if self.seen.endswith((".", "!", "?")) else f"{self.seen}."

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values, with its remedy."""
        kind = KINDS[self.kind]
        return {
            "kind": self.kind,
            "severity": kind.severity,
            "place": None if self.place is None else str(self.place),
            "seen": self.seen,
            "remedy": kind.remedy,
        }


class Findings:
    """A collection of findings: exact counts, and the first `keep` findings of each kind.

    The same of one row counts once, however many examples the row has.

    Example:
        >>> findings = Findings(keep=1)
        >>> findings.add(Finding("loop", None, "a")); findings.add(Finding("loop", None, "b"))
        >>> findings.counts, [finding.seen for finding in findings]
        ({'loop': 2}, ['a'])
    """

    def __init__(self, *, keep: int = 1000) -> None:
        self._keep = keep
        self._counts: dict[str, int] = {}
        self._kept: dict[str, list[Finding]] = {}
        self._latest: dict[str, Finding] = {}
        self._places: set[Place] = set()

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if its kind has fewer than `keep`.

        Raises:
            KeyError: If its kind is not in `KINDS`.
        """
        if finding.kind not in KINDS:
            raise KeyError(finding.kind)
        if finding.place is not None and finding == self._latest.get(finding.kind):
            return
        self._latest[finding.kind] = finding
        self._counts[finding.kind] = self._counts.get(finding.kind, 0) + 1
        if self.has_room(finding.kind):
            self._kept.setdefault(finding.kind, []).append(finding)
            if finding.place is not None:
                self._places.add(finding.place)

    def has_room(self, kind: str) -> bool:
        """Return True if the next finding of this kind is kept."""
        return len(self._kept.get(kind, ())) < self._keep

    def has(self, place: Place) -> bool:
        """Return True if a kept finding is about this row."""
        return place in self._places

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind, in the order of `KINDS`."""
        return {name: self._counts[name] for name in KINDS if name in self._counts}

    def of_kind(self, name: str) -> list[Finding]:
        """Return the kept findings of one kind."""
        return list(self._kept.get(name, ()))

    def __iter__(self) -> Iterator[Finding]:
        for name in KINDS:
            yield from self._kept.get(name, ())

    def __len__(self) -> int:
        return sum(self._counts.values())
