"""Text to ids as serving makes them, tokenizing each character once.

A tokenizer first cuts out its added tokens (control tokens and the like) and then tokenizes what lies between, piece
by piece. `PieceTokenizer` does the same in two steps, so that pieces which prompts share are tokenized once. Whether
a tokenizer really works like this is tested when it is wrapped; one that does not is given whole texts.

A *break* is a position at which a text is cut so that a typed control token is not recognised. What follows a break is
tokenized as a continuation, without the space that SentencePiece puts before a text.

Why: pieces end only at added tokens, where the tokenizer itself guarantees a boundary. Cutting at spaces would be
faster on one thread, but it would have to infer from a tokenizer's regular expressions that ids stay equal; where
such an inference is wrong, wrong ids are trained silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from instil.errors import EncodingError

_CACHE_CHARACTERS = 4_000_000
_ANCHORS = ("\n", "\t", "|", "¶", "a\n", ".")
_TRIALS = (
    "Hello there, {}how are{}  you?{}\n\n{} \n1234 été {}🌈 天空",
    "{}first {}\n",
    " leading{}trailing ",
    "{}{}x{} y",
    "a{}\nb{}\n\nc\n{}",
)


class PieceTokenizer:
    """A tokenizer's text-to-ids, exact and with a memory.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> backend = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
        >>> backend.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> backend.add_special_tokens(["<x>"])
        1
        >>> PieceTokenizer(backend).encode("a<x>b a")
        [0, 2, 1, 0]
    """

    def __init__(
        self,
        backend: Any,
        *,
        added: Mapping[int, str] | None = None,
        whole: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        """Wrap a tokenizer.

        Args:
            backend: The `tokenizers.Tokenizer`, or None if there is none.
            added: Without a backend: every added token, by id.
            whole: Without a backend: the function that gives a text's ids.
        """
        self._backend, self._whole = backend, whole
        if backend is not None:
            backend.no_truncation()
            backend.no_padding()
            backend.encode_special_tokens = False  # an earlier call may have set it
            added = {number: token.content for number, token in backend.get_added_tokens_decoder().items()}
        self._id_of = {text: number for number, text in (added or {}).items()}
        self._splitter = re.compile("(" + trie_pattern(self._id_of) + ")") if self._id_of else None
        starts = sorted({text[0] for text in self._id_of if not text[0].isspace()})
        spaces = [text for text in self._id_of if text[0].isspace()]
        self._longest = max(map(len, self._id_of), default=0)
        self._beginnings = {text[:length] for text in self._id_of if text.strip() for length in range(1, len(text))}
        self._space = re.compile(trie_pattern(spaces)) if spaces else None
        self._may = re.compile("[" + re.escape("".join(starts)) + "]") if starts else None
        # A piece that begins a text may have other ids than the same piece after an added token: two memories.
        self._first: dict[str, list[int]] = {}
        self._later: dict[str, list[int]] = {}
        self._num_characters = 0
        self._lead = self._lead_of_later_pieces()
        self._in_pieces = False
        self._in_pieces = backend is not None and self._works_in_pieces()
        self._starts_plainly = all(
            self._raw("\n") and self._raw("\n" + text) == self._raw("\n") + self._raw(text)
            for text in ("answer", " a", "天")
        )

    def encode(self, text: str, breaks: Sequence[int] = ()) -> list[int]:
        """Return the ids that serving gives the text, broken at `breaks` (positions, sorted)."""
        if not breaks:
            return self._encode_unbroken(text)
        ids = list(self._encode_unbroken(text[: breaks[0]]))
        for start, end in pairwise([*breaks, len(text)]):
            ids += self.encode_more(text[start:end])
        return ids

    def encode_more(self, text: str, breaks: Sequence[int] = ()) -> list[int]:
        """Return ids that continue what came before: appended to it, they decode to the text and nothing more.

        Raises:
            EncodingError: If the tokenizer cannot continue a text.
        """
        if breaks:
            bounds = [0, *breaks, len(text)]
            return [number for start, end in pairwise(bounds) for number in self.encode_more(text[start:end])]
        if not text:
            return []
        if self._starts_plainly:
            return self._encode_unbroken(text)
        # Tokenize behind something that leaves its own ids alone, and take what follows those.
        for anchor in _ANCHORS:
            alone, both = self._raw(anchor), self._raw(anchor + text)
            if alone and both[: len(alone)] == alone and len(both) > len(alone):
                return both[len(alone) :]
        raise EncodingError(
            f"tokenizer: {text[:40]!r} cannot be tokenized as the continuation of a text. Expected a tokenizer that "
            "leaves line breaks alone. Set data.typed_control_tokens: keep if the text contains a typed control token."
        )

    def remember_texts(self, texts: Iterable[str]) -> None:
        """Tokenize the pieces of many texts in one batch, so that `encode` finds them."""
        if not self._in_pieces:
            return
        first: dict[str, None] = {}
        later: dict[str, None] = {}
        for text in texts:
            parts = self._splitter.split(text) if self._splitter else [text]
            for number in range(0, len(parts), 2):
                piece = parts[number]
                if not piece:
                    continue
                if number == 0 and piece not in self._first:
                    first[piece] = None
                elif number and piece not in self._later:
                    later[piece] = None
        self.remember(list(first), first=True)
        self.remember(list(later), first=False)

    def remember(self, pieces: Sequence[str], *, first: bool) -> None:
        """Tokenize pieces in one batch. `first`: they begin a text; otherwise they follow an added token."""
        if not pieces:
            return
        lead, skip = ("", 0) if first else self._lead
        texts = [lead + piece for piece in pieces] if lead else list(pieces)
        memory = self._first if first else self._later
        encodings = _whole_characters(self._backend.encode_batch_fast, texts)
        for piece, encoding in zip(pieces, encodings, strict=True):
            memory[piece] = encoding.ids[skip:] if skip else encoding.ids
            self._num_characters += len(piece)

    @property
    def in_pieces(self) -> bool:
        """Whether what lies between added tokens is tokenized by itself."""
        return self._in_pieces

    def knows(self, piece: str, *, first: bool) -> bool:
        """Return whether a piece's ids are remembered."""
        return piece in (self._first if first else self._later)

    def ids_of(self, piece: str, *, first: bool) -> list[int]:
        """Return the ids of a piece that lies between two added tokens; the caller must not change the list."""
        memory = self._first if first else self._later
        ids = memory.get(piece)
        if ids is None:
            self.remember([piece], first=first)
            ids = memory[piece]
        return ids

    def split(self, text: str) -> list[tuple[str, int | None]]:
        """Cut a text at its added tokens: each piece with None, each added token with its id."""
        if self._splitter is None:
            return [(text, None)] if text else []
        parts = self._splitter.split(text)
        return [(part, self._id_of[part] if number % 2 else None) for number, part in enumerate(parts) if part]

    def has_added_token(self, text: str) -> bool:
        """Return whether a text contains an added token, or ends with the beginning of one."""
        if self._space is not None and self._space.search(text) is not None:
            return True
        if self._may is None or self._may.search(text) is None:
            return False
        return (self._splitter is not None and self._splitter.search(text) is not None) or self.begins_at_end(text)

    def begins_at_end(self, text: str) -> bool:
        """Return whether an added token may begin at the end of a text and continue behind it."""
        if self._may is not None and self._space is None:
            match = self._may.search(text, max(0, len(text) - self._longest))
            if match is None:
                return False
        return any(text[-length:] in self._beginnings for length in range(1, min(self._longest, len(text) + 1)))

    def forget(self, *, above: int = _CACHE_CHARACTERS) -> None:
        """Drop the remembered pieces if they have more than `above` characters."""
        if self._num_characters > above:
            self._first.clear()
            self._later.clear()
            self._num_characters = 0

    def _encode_unbroken(self, text: str) -> list[int]:
        if not self._in_pieces or self._splitter is None:
            return self._raw(text)
        self.forget(above=8 * _CACHE_CHARACTERS)  # higher than in a batch, which must find what it just remembered
        parts = self._splitter.split(text)
        ids: list[int] = []
        for number, part in enumerate(parts):
            if number % 2:
                ids.append(self._id_of[part])
            elif part:
                ids += self.ids_of(part, first=number == 0)
        return ids

    def _raw(self, text: str) -> list[int]:
        if self._whole is not None:
            return list(self._whole(text))
        return _whole_characters(self._backend.encode, text).ids  # type: ignore[no-any-return]

    def _lead_of_later_pieces(self) -> tuple[str, int]:
        """Return what must stand before a piece that follows an added token, and how many ids it takes."""
        if self._backend is None or not self._id_of:
            return "", 0
        for token, number in self._id_of.items():
            if all(self._raw(token + text) == [number, *self._raw(text)] for text in ("answer", " a", "天", "\nx")):
                return "", 0
            if self._raw(token) == [number]:
                return token, 1
        return "", 0

    def _works_in_pieces(self) -> bool:
        """Test whether pieces give the ids of whole texts."""
        if self._splitter is None:
            return True
        # Added tokens that take white space with them, or match only whole words, look beyond their own characters.
        for token in self._backend.get_added_tokens_decoder().values():
            if token.lstrip or token.rstrip or token.single_word:
                return False
            if token.normalized and self._backend.normalizer is not None:
                return False
        # For the others: compare both ways on texts, with different added tokens at each place.
        self._in_pieces = True
        tokens = list(self._id_of)
        for number, trial in enumerate(_TRIALS):
            for shift in range(min(len(tokens), 12)):
                chosen = [tokens[(number + shift + at) % len(tokens)] for at in range(trial.count("{}"))]
                text = trial.format(*chosen)
                if self._encode_unbroken(text) != self._raw(text):
                    return False
        return True


def _whole_characters(encode: Callable[..., Any], text: str | list[str]) -> Any:
    """Tokenize; half a surrogate pair, which `tokenizers` takes for something else than text, is named.

    Raises:
        EncodingError: If there is one.
    """
    try:
        return encode(text, add_special_tokens=False)
    except TypeError:
        raise EncodingError(
            "conversation: a text has half a surrogate pair. Expected whole characters. Remove it from tools, names or "
            "template variables."
        ) from None


def trie_pattern(texts: Iterable[str]) -> str:
    """Return a regular expression that matches the longest of some texts, compact where they share beginnings.

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
    return _pattern_of(trie)


def _pattern_of(node: Mapping[str, Any]) -> str:
    ends_here = "" in node
    branches = [re.escape(character) + _pattern_of(node[character]) for character in sorted(node) if character]
    if not branches:
        return ""
    if len(branches) == 1 and not ends_here:
        return branches[0]
    return "(?:" + "|".join(branches) + ")" + ("?" if ends_here else "")
