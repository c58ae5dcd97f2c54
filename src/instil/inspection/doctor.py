"""Examine every row for faults: as it is in the file, as it is read, and compared with all others.

`survey` passes each chunk to the encoder and to the doctor, so one pass gives ledger, histograms and findings.

Why: a row is parsed and read a second time here. Reading costs a tenth of tokenizing, and preparation stays free of
checks that only `inspect` needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from instil.conversation import Conversation, Place
from instil.data.formats.registry import read_row
from instil.data.side_columns import unread_columns
from instil.data.sources.rows import parse_row
from instil.encoding.turns.rendered_rows import RenderedRow
from instil.errors import DataError, FormatError, InstilError, NoPairError
from instil.inspection.contradictions import Contradictions
from instil.inspection.conversation_checks import answer_text, check_conversation
from instil.inspection.duplicates import NearDuplicates
from instil.inspection.findings import Finding, Findings
from instil.inspection.raw_rows import misspelt_in, unknown_roles_in
from instil.inspection.repeats import Repeats
from instil.preparation.chunks import Chunk
from instil.preparation.encode_pairs import only_answer, units_of
from instil.preparation.encode_rows import SourceWork
from instil.preparation.split import content_hash
from instil.recipe import Reading
from instil.units import counted

_BAD_ANSWERS = frozenset({"empty_answer", "says_nothing", "placeholder", "cut_answer", "loop"})
"""What is a fault of an answer to imitate, and may be the reason why an answer is rejected."""
ReadRendered: TypeAlias = Callable[[Conversation], tuple[Conversation, RenderedRow | None]]


class Doctor:
    """Examines rows and collects findings.

    Args:
        stop_tokens: Texts of the model's stop tokens.
        prints_reasoning: Whether the template prints a message's reasoning.
        read_rendered: Reads a conversation back into messages where it is rendered text (see `ChatTokenizer`).
        keep: Number of findings of each kind to keep with their places.
    """

    def __init__(
        self,
        *,
        stop_tokens: Sequence[str] = (),
        prints_reasoning: bool = True,
        read_rendered: ReadRendered | None = None,
        keep: int = 1000,
    ) -> None:
        self.findings = Findings(keep=keep)
        self._stop_tokens = tuple(stop_tokens)
        self._prints_reasoning = prints_reasoning
        self._read_rendered = read_rendered
        self._near = NearDuplicates()
        self._repeats = Repeats()
        self._contradictions = Contradictions()

    def examine(self, chunk: Chunk, source: SourceWork) -> Iterator[tuple[Place, tuple[Conversation, ...]]]:
        """Examine the rows of a chunk, and yield the conversations of each. A row that cannot be read has none."""
        for place, raw in zip(chunk.places, chunk.rows, strict=True):
            yield place, tuple(self._examine_row(place, raw, source))

    def finish(self) -> Findings:
        """Return all findings, with those that need all rows."""
        for finding in self._repeats.findings():
            self.findings.add(finding)
        return self.findings

    @property
    def num_not_compared(self) -> int:
        """Number of rows that came after the memory for duplicates was full."""
        return max(self._near.num_not_remembered, self._repeats.num_not_remembered)

    def _examine_row(self, place: Place, raw: Any, source: SourceWork) -> Sequence[Conversation]:
        try:
            row = parse_row(raw, place)
        except DataError as error:
            self._add("unreadable", place, _bare(error, place))
            return ()
        misspelt = [] if source.options.columns else misspelt_in(row)
        if misspelt:
            self._add("misspelt_key", place, "; ".join(f"{where}: {seen}" for where, seen in misspelt))
        try:
            _, conversations = read_row(row, place, format_name=source.format, options=source.options)
        except NoPairError as error:
            self._add("no_pair", place, _bare(error, place))
            return ()
        except DataError as error:
            self._add_unreadable(row, place, error, misspelt=bool(misspelt))
            return ()
        self._compare(conversations, place)
        if source.options.reading != "sft":
            self._find_opposites(conversations, source.options.reading, place)
        conversations = [self._read_back(conversation, place) for conversation in conversations]
        # Both sides of a pair have the same prompt, so what is found in it would be found twice.
        found = dict.fromkeys(item for conversation in conversations for item in self._examined(conversation))
        for kind, seen in found:
            self._add(kind, place, seen)
        return conversations

    def _read_back(self, conversation: Conversation, place: Place) -> Conversation:
        """Return a conversation, as messages if it is rendered text; one that cannot be read back stays as it is."""
        if self._read_rendered is None:
            return conversation
        try:
            messages, how = self._read_rendered(conversation)
        except InstilError as error:
            self._add("rendered", place, _bare(error, place))
            return conversation
        if how is not None:
            self._add("read_back", place, f"rendered with {how.how}: {counted(len(messages.messages), 'message')}")
            if conversation.side is not None:
                return only_answer(replace(messages, side=conversation.side))
        return messages

    def _add_unreadable(self, row: Any, place: Place, error: DataError, *, misspelt: bool) -> None:
        roles = unknown_roles_in(row)
        if roles:
            self._add("unknown_role", place, "; ".join(f"{where}: {seen}" for where, seen in roles))
        elif not misspelt:
            kind = "unknown_format" if isinstance(error, FormatError) else "unreadable"
            self._add(kind, place, _bare(error, place))

    def _examined(self, conversation: Conversation) -> Iterator[tuple[str, str]]:
        """Yield kind and description of every fault of a conversation. A rejected answer may be a bad one."""
        for kind, seen in check_conversation(conversation, stop_tokens=self._stop_tokens):
            if conversation.side != "rejected" or kind not in _BAD_ANSWERS:
                yield kind, seen
        for column, meaning in unread_columns(conversation):
            yield "unread_column", f"column {column!r} looks like {meaning}, and nothing reads it"
        if not self._prints_reasoning and not conversation.plain:
            thinking = [n for n, message in enumerate(conversation.messages, start=1) if message.reasoning]
            if thinking:
                messages = "message" if len(thinking) == 1 else "messages"
                yield "unused_reasoning", f"reasoning in {messages} {', '.join(map(str, thinking))}"

    def _find_opposites(self, conversations: Sequence[Conversation], reading: Reading, place: Place) -> None:
        for unit in units_of(conversations, reading):
            earlier = self._contradictions.add(unit, place)
            if earlier is not None:
                self._add("contradiction", place, f"{earlier} says the opposite of the same answers")

    def _compare(self, conversations: Sequence[Conversation], place: Place) -> None:
        earlier = self._repeats.add(conversations, place, row_hash=content_hash(conversations))
        if earlier is not None:
            self._add("duplicate", place, f"the same as {earlier}")
            return
        text = " ".join(
            answer_text(message)
            for conversation in conversations
            for message in conversation.messages
            if message.role not in ("system", "developer")
        )
        near = self._near.add(text, place)
        if near is not None:
            self._add("near_duplicate", place, f"nearly the same as {near}")

    def _add(self, kind: str, place: Place, seen: str) -> None:
        self.findings.add(Finding(kind, place, seen))


def _bare(error: Exception, place: Place) -> str:
    return str(error).removeprefix(f"{place}: ").removeprefix(f"{place}:").strip()
