"""Text to ids, as serving makes them, each character tokenized once.

A tokenizer first cuts out its added tokens (control tokens and the like) and then tokenizes what lies between, piece by piece. `Tokens`
does the same in two steps, so that the pieces that prompts share are tokenized once. Whether a tokenizer really works so is tried when it
is loaded; one that does not is given whole texts. Where the tokenizers library has one thread and it is proved that a piece may be cut at
spaces (`cuts`), it is put together from its `words`; several threads are faster on whole pieces, for they work while Python does
something else. Questionable on purpose: a *break* cuts a text where a typed control token must not be seen; what
follows it is tokenized as a continuation, without the space that SentencePiece puts before a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

from instil.encoding.cuts import find_cuts
from instil.encoding.words import Words
from instil.errors import EncodingError
from instil.preparation.threads import tokenizer_has_threads

_CACHE_CHARACTERS = 4_000_000
_ANCHORS = ("\n", "\t", "|", "¶", "a\n", ".")
_TRIALS = (
    "Hello there, {}how are{}  you?{}\n\n{} \n1234 été {}🌈 天空",
    "{}first {}\n",
    " leading{}trailing ",
    "{}{}x{} y",
    "a{}\nb{}\n\nc\n{}",
)


class Tokens:
    """A tokenizer's text-to-ids, exact and with a memory.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> backend = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
        >>> backend.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> backend.add_special_tokens(["<x>"])
        1
        >>> Tokens(backend).encode("a<x>b a")
        [0, 2, 1, 0]
    """

    def __init__(
        self,
        backend: Any,
        *,
        added: Mapping[int, str] | None = None,
        whole: Callable[[str], Sequence[int]] | None = None,
        by_words: bool | None = None,
    ) -> None:
        """Wrap a tokenizer.

        Args:
            backend: The `tokenizers.Tokenizer`, or None where there is none.
            added: Without a backend: every added token, by id.
            whole: Without a backend: the function that gives a text's ids.
            by_words: Put pieces together from words where that is proved; None: where the library has one thread. The ids are the same.
        """
        self._by_words = not tokenizer_has_threads() if by_words is None else by_words
        self._backend, self._whole = backend, whole
        if backend is not None:
            backend.no_truncation()
            backend.no_padding()
            backend.encode_special_tokens = False  # an earlier call may have left it otherwise
            added = {number: token.content for number, token in backend.get_added_tokens_decoder().items()}
        self._id_of = {text: number for number, text in (added or {}).items()}
        self._splitter = re.compile("(" + trie_pattern(self._id_of) + ")") if self._id_of else None
        starts = sorted({text[0] for text in self._id_of if not text[0].isspace()})
        spaces = [text for text in self._id_of if text[0].isspace()]
        self._longest = max(map(len, self._id_of), default=0)
        self._beginnings = {text[:length] for text in self._id_of if text.strip() for length in range(1, len(text))}
        self._space = re.compile(trie_pattern(spaces)) if spaces else None
        self._may = re.compile("[" + re.escape("".join(starts)) + "]") if starts else None
        self._first: dict[str, list[int]] = {}
        self._later: dict[str, list[int]] = {}
        self._held = 0
        self._lead = self._later_lead()
        self._in_pieces = False
        self._in_pieces = backend is not None and self._works_in_pieces()
        self._starts_plainly = all(
            self._raw("\n") and self._raw("\n" + text) == self._raw("\n") + self._raw(text)
            for text in ("answer", " a", "天")
        )

    def encode(self, text: str, breaks: Sequence[int] = ()) -> list[int]:
        """Give the ids that serving gives the text, which are cut apart at `breaks` (positions, sorted)."""
        if not breaks:
            return self._in_one(text)
        ids = list(self._in_one(text[: breaks[0]]))
        for start, end in pairwise([*breaks, len(text)]):
            ids += self.continued(text[start:end])
        return ids

    def continued(self, text: str, breaks: Sequence[int] = ()) -> list[int]:
        """Give ids that continue what came before: laid after it, they decode to the text and nothing more.

        Raises:
            EncodingError: If the tokenizer cannot be made to continue a text.
        """
        if breaks:
            bounds = [0, *breaks, len(text)]
            return [number for a, b in pairwise(bounds) for number in self.continued(text[a:b])]
        if not text:
            return []
        if self._starts_plainly:
            return self._in_one(text)
        for anchor in _ANCHORS:
            alone, both = self._raw(anchor), self._raw(anchor + text)
            if alone and both[: len(alone)] == alone and len(both) > len(alone):
                return both[len(alone) :]
        raise EncodingError(
            f"tokenizer: {text[:40]!r} cannot be tokenized as the continuation of a text; expected a tokenizer that "
            "leaves line breaks alone; set data.typed_control_tokens: keep if the text holds a typed control token"
        )

    def encode_many(self, texts: Iterable[str]) -> None:
        """Tokenize the pieces of many texts in one batch, so that `encode` finds them."""
        if not self._in_pieces:
            return
        first: dict[str, None] = {}
        later: dict[str, None] = {}
        for text in texts:
            pieces = self._splitter.split(text) if self._splitter else [text]
            for number in range(0, len(pieces), 2):
                piece = pieces[number]
                if not piece:
                    continue
                if number == 0 and piece not in self._first:
                    first[piece] = None
                elif number and piece not in self._later:
                    later[piece] = None
        self.remember(list(first), first=True)
        self.remember(list(later), first=False)

    def remember(self, pieces: list[str], *, first: bool) -> None:
        """Tokenize pieces in one batch. `first`: they begin a text; otherwise they follow an added token."""
        if self._words is None:
            self._remember_whole(pieces, first=first)
            return
        memory = self._first if first else self._later
        cut = [self._words.split(piece) for piece in pieces]
        self._remember_whole([start for start in {parts[0] for parts in cut} if start not in memory], first=first)
        self._words.learn(chain.from_iterable(parts[1:] for parts in cut))
        for piece, parts in zip(pieces, cut, strict=True):
            if len(parts) > 1:
                memory[piece] = memory[parts[0]] + self._words.ids(parts[1:])
                self._held += len(piece)

    def _remember_whole(self, pieces: list[str], *, first: bool) -> None:
        if not pieces:
            return
        lead, skip = ("", 0) if first else self._lead
        given = [lead + piece for piece in pieces] if lead else pieces
        memory = self._first if first else self._later
        for piece, made in zip(pieces, self._backend.encode_batch_fast(given, add_special_tokens=False), strict=True):
            memory[piece] = made.ids[skip:] if skip else made.ids
            self._held += len(piece)

    @cached_property
    def _words(self) -> Words | None:
        """What tokenizes pieces word by word, where that is wanted and proved; tried on texts nevertheless."""
        cuts = find_cuts(self._backend) if self._in_pieces and self._by_words else None
        if cuts is None or any(cuts.split.search(text) for text in self._id_of):
            return None
        words = Words(self._backend, cuts)
        for text in (trial.format(*[" "] * trial.count("{}")) for trial in _TRIALS):
            start, *rest = words.split(f"|{text}")
            words.learn(rest)
            if self._raw(start) + words.ids(rest) != self._raw(f"|{text}"):
                return None
        return words

    @property
    def in_pieces(self) -> bool:
        """Whether what lies between added tokens is tokenized by itself."""
        return self._in_pieces

    def knows(self, piece: str, *, first: bool) -> bool:
        """Tell whether a piece's ids are remembered."""
        return piece in (self._first if first else self._later)

    def piece(self, piece: str, *, first: bool) -> list[int]:
        """Give the ids of what lies between two added tokens; do not change the list."""
        return self._piece(piece, first=first)

    def pieces(self, text: str) -> list[tuple[str, int | None]]:
        """Cut a text at its added tokens: each piece with None, each added token with its id."""
        if self._splitter is None:
            return [(text, None)] if text else []
        parts = self._splitter.split(text)
        return [(part, self._id_of[part] if number % 2 else None) for number, part in enumerate(parts) if part]

    def has_added_token(self, text: str) -> bool:
        """Tell whether an added token stands in a text, or begins at its end so that another text could complete it."""
        if self._space is not None and self._space.search(text) is not None:
            return True
        if self._may is None or self._may.search(text) is None:
            return False
        return (self._splitter is not None and self._splitter.search(text) is not None) or self.begins_in(text)

    def begins_in(self, text: str) -> bool:
        """Tell whether an added token may begin at the end of a text and go on behind it."""
        if self._may is not None and self._space is None:
            found = self._may.search(text, max(0, len(text) - self._longest))
            if found is None:
                return False
        return any(text[-length:] in self._beginnings for length in range(1, min(self._longest, len(text) + 1)))

    def forget(self, *, above: int = _CACHE_CHARACTERS) -> None:
        """Drop remembered pieces where they have become many."""
        if self._held > above:
            self._first.clear()
            self._later.clear()
            self._held = 0

    def _in_one(self, text: str) -> list[int]:
        if not self._in_pieces or self._splitter is None:
            return self._raw(text)
        self.forget(above=8 * _CACHE_CHARACTERS)  # a batch that was just remembered must still be there
        pieces = self._splitter.split(text)
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            if number % 2:
                ids.append(self._id_of[piece])
            elif piece:
                ids += self._piece(piece, first=number == 0)
        return ids

    def _piece(self, piece: str, *, first: bool) -> list[int]:
        memory = self._first if first else self._later
        found = memory.get(piece)
        if found is None:
            self.remember([piece], first=first)
            found = memory[piece]
        return found

    def _raw(self, text: str) -> list[int]:
        if self._whole is not None:
            return list(self._whole(text))
        return self._backend.encode(text, add_special_tokens=False).ids  # type: ignore[no-any-return]

    def _later_lead(self) -> tuple[str, int]:
        """Give what must stand before a piece that follows an added token, and how many ids it takes."""
        if self._backend is None or not self._id_of:
            return "", 0
        for token, number in self._id_of.items():
            if all(self._raw(token + text) == [number, *self._raw(text)] for text in ("answer", " a", "天", "\nx")):
                return "", 0
            if self._raw(token) == [number]:
                return token, 1
        return "", 0

    def _works_in_pieces(self) -> bool:
        """Try it on texts; added tokens that swallow spaces, or match only whole words, rule it out."""
        if self._splitter is None:
            return True
        for token in self._backend.get_added_tokens_decoder().values():
            if token.lstrip or token.rstrip or token.single_word:
                return False
            if token.normalized and self._backend.normalizer is not None:
                return False
        self._in_pieces = True
        some = list(self._id_of)
        for number, trial in enumerate(_TRIALS):
            for shift in range(min(len(some), 12)):
                chosen = [some[(number + shift + at) % len(some)] for at in range(trial.count("{}"))]
                text = trial.format(*chosen)
                if self._in_one(text) != self._raw(text):
                    return False
        return True


def trie_pattern(texts: Iterable[str]) -> str:
    """Give a regular expression that matches the longest of some texts, compact where they share beginnings.

    Example:
        >>> trie_pattern(["<a>", "<ab>"])
        '<a(?:>|b>)'
    """
    trie: dict[str, Any] = {}
    for text in texts:
        node = trie
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}
    return _written(trie)


def _written(node: Mapping[str, Any]) -> str:
    ends = "" in node
    branches = [re.escape(character) + _written(node[character]) for character in sorted(node) if character]
    if not branches:
        return ""
    if len(branches) == 1 and not ends:
        return branches[0]
    return "(?:" + "|".join(branches) + ")" + ("?" if ends else "")
