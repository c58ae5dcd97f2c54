r"""llama.cpp's way of cutting a text with a SentencePiece BPE, and whether a tokenizer can be written for it.

transformers merges the pair that comes first in a list of merges. llama.cpp merges the two neighbours whose joined
piece has the best score, the leftmost first. Both agree if the merge list is ordered by piece and complete, as in
lists converted from
SentencePiece: a piece's score is then its position. The rules around merging (the space before a text, bytes for
unknown characters, control tokens) have few forms in llama.cpp. A tokenizer with other rules is refused by name.

*Source:* llama.cpp, ``src/llama-vocab.cpp``, ``llm_tokenizer_spm_session`` and ``llama_vocab::impl::tokenize``.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from instil.errors import ExportError

MARK = "▁"
"""How SentencePiece writes a space."""
UNREACHED = -1e6
"""The score of pieces that no merge makes: single characters, bytes, control tokens."""
_REMEDY = (
    "llama.cpp would tokenize texts differently. Convert the merged folder with llama.cpp's own script, and compare "
    "the ids."
)
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
_PREPENDED = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}, _SPACES]}
_METASPACE = {"type": "Metaspace", "replacement": MARK, "split": False}


def byte_piece(value: int) -> str:
    """Return the name of a byte's piece.

    Example:
        >>> byte_piece(10)
        '<0x0A>'
    """
    return f"<0x{value:02X}>"


def refuse_other_rules(backend: Mapping[str, Any]) -> bool:
    """Check the rules around merging.

    If a tokenizer puts a space only before a text's first segment, the file is written without one. Prompts that
    begin with a control token are unaffected; comparing ids finds the others.

    Args:
        backend: The content of tokenizer.json.

    Returns:
        Whether every segment of text gets a space before it.

    Raises:
        ExportError: If llama.cpp does not have one of the rules; the message names it.
    """
    model, normalizer, splitter = backend["model"], backend.get("normalizer"), backend.get("pre_tokenizer")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(key):
            raise ExportError(f"gguf: the tokenizer sets {key}. {_REMEDY}")
    missing = next((byte_piece(value) for value in range(256) if byte_piece(value) not in model["vocab"]), None)
    if missing is not None:
        raise ExportError(f"gguf: the tokenizer has no piece {missing} for a byte. {_REMEDY}")
    # llama.cpp knows three forms: a space before every segment, before none, or spaces replaced only.
    prefixed = normalizer == _PREPENDED and splitter is None
    bare = normalizer is None and splitter in [{**_METASPACE, "prepend_scheme": how} for how in ("first", "never")]
    if not prefixed and not bare and not (normalizer == _SPACES and splitter is None):
        rules = f"normalizer {_kinds(normalizer)} and pre-tokenizer {_kinds(splitter)}"
        raise ExportError(f"gguf: a SentencePiece tokenizer with {rules}. {_REMEDY}")
    for token in backend.get("added_tokens", ()):
        # llama.cpp matches an added token's exact text, and nothing around it.
        odd = [key for key in ("lstrip", "rstrip", "single_word") if token.get(key)]
        if normalizer is not None and token.get("normalized"):
            odd.append("normalized")
        if odd:
            raise ExportError(f"gguf: the added token {token['content']!r} is {odd[0]}. {_REMEDY}")
    return bool(prefixed)


def _kinds(rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return "none"
    parts = rule.get("normalizers") or rule.get("pretokenizers")
    scheme = f" ({rule['prepend_scheme']})" if "prepend_scheme" in rule else ""
    return "+".join(map(_kinds, parts)) if parts else f"{rule['type']}{scheme}"


def piece_scores(backend: Mapping[str, Any]) -> dict[str, float]:
    """Return the score of each merged piece: 0 for the one merged first, one less for each that follows.

    Raises:
        ExportError: If merging by score would differ from the merges.
    """
    vocabulary = backend["model"]["vocab"]
    splits: dict[str, set[int]] = {}
    last = ""
    for merge in backend["model"]["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        piece = left + right
        if piece != last and piece in splits:
            raise ExportError(f"gguf: the tokenizer's merges return to the piece {piece!r}. {_REMEDY}")
        last = piece
        splits.setdefault(piece, set()).add(len(left))
    for piece in vocabulary:
        ways = {at for at in range(1, len(piece)) if piece[:at] in vocabulary and piece[at:] in vocabulary}
        if more := ways - splits.get(piece, set()):
            at = min(more)
            raise ExportError(
                f"gguf: the tokenizer does not merge {piece[:at]!r} and {piece[at:]!r}, but llama.cpp would. {_REMEDY}"
            )
    return {piece: -float(turn) for turn, piece in enumerate(splits)}


def cut(text: str, vocabulary: Mapping[str, int], scores: Mapping[str, float]) -> list[int]:
    """Tokenize a text without control tokens as llama.cpp does.

    Args:
        text: With spaces as they are; the space before it, if any, is part of it.
        vocabulary: Ids by piece.
        scores: By merged piece.

    Returns:
        Ids.
    """
    pieces: list[str | None] = list(text.replace(" ", MARK))
    before, after = list(range(-1, len(pieces) - 1)), [*range(1, len(pieces)), -1]
    waiting: list[tuple[float, int, int, str]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right >= 0:
            piece = f"{pieces[left]}{pieces[right]}"
            if piece in vocabulary:
                heapq.heappush(waiting, (-scores.get(piece, UNREACHED), left, right, piece))

    for at in range(len(pieces) - 1):
        offer(at, at + 1)
    while waiting:
        _, left, right, piece = heapq.heappop(waiting)
        if pieces[left] is None or pieces[right] is None or f"{pieces[left]}{pieces[right]}" != piece:
            continue  # one of them is already part of another piece
        pieces[left], pieces[right] = piece, None
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
        offer(before[left], left)
        offer(left, after[left])
    return [number for piece in pieces if piece is not None for number in _ids(piece, vocabulary)]


def _ids(piece: str, vocabulary: Mapping[str, int]) -> Sequence[int]:
    if piece in vocabulary:
        return [vocabulary[piece]]
    return [vocabulary[byte_piece(value)] for value in piece.encode()]


def cut_with_control_tokens(
    text: str, *, backend: Mapping[str, Any], scores: Mapping[str, float], prefixed: bool
) -> list[int]:
    """Tokenize a rendered prompt as llama.cpp does: control tokens first (longest first), then the texts between them.

    Args:
        text: Of the prompt.
        backend: What tokenizer.json holds.
        scores: As `piece_scores` gives them.
        prefixed: Whether a space goes before every stretch of text.
    """
    vocabulary = backend["model"]["vocab"]
    control = {token["content"]: token["id"] for token in backend.get("added_tokens", ())}
    parts: list[str | int] = [text]
    for content in sorted(control, key=len, reverse=True):
        parts = [piece for part in parts for piece in _apart(part, content, control[content])]
    ids: list[int] = []
    for part in parts:
        if isinstance(part, int):
            ids.append(part)
        else:
            ids += cut(f" {part}" if prefixed else part, vocabulary, scores)
    return ids


def _apart(part: str | int, content: str, number: int) -> list[str | int]:
    """Split a text at a control token, which becomes its id; an id stays as it is."""
    if isinstance(part, int):
        return [part]
    parts: list[str | int] = []
    for at, stretch in enumerate(part.split(content)):
        parts += [number] if at else []
        parts += [stretch] if stretch else []
    return parts
