"""Where a text may be cut so that its parts, tokenized each by itself, give the ids of the whole.

Two kinds of cut: before a space that follows a printed character, and, finer, between letters, digits and punctuation. Each is
allowed only where the tokenizer's own description proves it: by the pre-tokenizer, which must split there whatever stands around
(`split_pattern`), or, where nothing splits, by the vocabulary: byte-pair merges never reach across a place that no entry reaches across.
Questionable on purpose: components that are not known here allow no cut; such a tokenizer is given longer texts, which costs time alone.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.encoding.split_pattern import WIDE, Matches, characters, read_pattern

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_PRINTED = r"[!-~\w]"  # no white space in any table of characters
_PRINTED_ASCII = "[!-~]"
_ALONE = r"(?![^\x00-\x7f])"  # nothing behind it that it could be composed with
_ALL_PRINTED = characters(map(chr, range(33, 127))) | WIDE
_ANCHORS = "xaeo0"
_KINDS = (string.ascii_letters, string.digits, string.punctuation.replace("'", ""))


@dataclass(frozen=True, slots=True)
class Cuts:
    """How a tokenizer's texts may be cut.

    Attributes:
        split: Splits a text into parts and drops the space before each but the first.
        anchor: What must stand before a part that is not the first while it is tokenized; empty where nothing must.
        finer: Splits a part further, or None; what it gives needs no anchor.
    """

    split: re.Pattern[str]
    anchor: str
    finer: re.Pattern[str] | None = None


def find_cuts(backend: Any) -> Cuts | None:
    """Find how a tokenizer's texts may be cut; None where no cut is proved.

    Args:
        backend: The `tokenizers.Tokenizer`.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> backend = Tokenizer(models.BPE())
        >>> find_cuts(backend) is None
        True
        >>> backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        >>> find_cuts(backend).split.split("one two  three")
        ['one', 'two', ' three']
    """
    normalizers = _components(backend.normalizer, "normalizers")
    splitters = _components(backend.pre_tokenizer, "pretokenizers")
    if normalizers is None or splitters is None or getattr(backend.model, "dropout", None):
        return None
    space = _space_becomes(normalizers, splitters)
    if space is None:
        return None
    composes = any(each["type"] == "NFC" for each in normalizers)
    if space == " ":
        return _cuts_by_splitting(splitters, composes=composes)
    if any(each["type"] == "Metaspace" and each.get("split") for each in splitters):
        return Cuts(re.compile(f"(?<={_PRINTED}) "), _ANCHORS[0])
    return _cuts_by_vocabulary(backend, space, _PRINTED_ASCII if composes else _PRINTED)


def _components(component: Any, parts: str) -> Sequence[Mapping[str, Any]] | None:
    """Give the parts of a normalizer or pre-tokenizer as it describes itself; None where it does not."""
    if component is None:
        return ()
    try:
        state = json.loads(component.__getstate__())
    except Exception:  # written in Python, or a class that keeps its description to itself
        return None
    found: list[Mapping[str, Any]] = list(state[parts]) if state.get("type") == "Sequence" else [state]
    return None if any(each.get("type") == "Sequence" for each in found) else found


def _space_becomes(normalizers: Sequence[Mapping[str, Any]], splitters: Sequence[Mapping[str, Any]]) -> str | None:
    """Give what the model sees in a space's place, None where normalizer and pre-tokenizer are not all understood."""
    kinds = [each["type"] for each in normalizers]
    metaspace = len(splitters) == 1 and splitters[0]["type"] == "Metaspace"
    if kinds in ([], ["NFC"]):
        return str(splitters[0]["replacement"]) if metaspace else " "
    replaces = normalizers[-1]
    if kinds not in (["Replace"], ["Prepend", "Replace"]) or replaces.get("pattern") != {"String": " "}:
        return None
    at_spaces = all(each["type"] == "Split" and each.get("pattern") == {"String": " "} for each in splitters)
    space = str(replaces["content"])
    return space if at_spaces and len(space) == 1 and not space.isspace() else None  # no space is left to split at


def _matches_of(splitter: Mapping[str, Any]) -> Matches | None:
    """Give what is known of a pre-tokenizer's matches; None if nothing is."""
    kind = splitter["type"]
    if kind == "ByteLevel" and not splitter["add_prefix_space"]:
        return read_pattern(_GPT2) if splitter.get("use_regex", True) else read_pattern("")
    if kind == "Digits":
        return read_pattern(r"\p{N}" if splitter["individual_digits"] else r"\p{N}+")
    if kind == "Split" and splitter["behavior"] == "Isolated" and not splitter["invert"]:
        return read_pattern(splitter["pattern"].get("Regex", r"\b"))
    return None


def _cuts_by_splitting(splitters: Sequence[Mapping[str, Any]], *, composes: bool) -> Cuts | None:
    """Cut where some pre-tokenizer always splits, and none looks at both sides.

    Args:
        splitters: The pre-tokenizers; one behind `ByteLevel`, which sees its letters for bytes, allows no cut.
        composes: Whether a character may become another with the accent behind it; no finer cut is before such a pair.
    """
    known = [matches for each in splitters if (matches := _matches_of(each)) is not None]
    if len(known) < len(splitters) or any(each["type"] == "ByteLevel" for each in splitters[:-1]):
        return None

    def splits(left: int, right: int) -> bool:
        if any(each.can_join(left, right) for each in known):
            return False
        return any(each.takes(right) or each.takes(left) for each in known)

    if not splits(_ALL_PRINTED, characters(" ")):
        return None
    finer = []
    for left in _KINDS:
        behind = "".join(right for right in _KINDS if splits(characters(left), characters(right)))
        if behind:
            finer.append(f"(?<=[{re.escape(left)}])(?=[{re.escape(behind)}]{_ALONE if composes else ''})")
    return Cuts(re.compile(f"(?<={_PRINTED}) "), "", re.compile("|".join(finer)) if finer else None)


def _cuts_by_vocabulary(backend: Any, space: str, printed: str) -> Cuts | None:
    """Cut where byte-pair merges cannot cross: before a space, unless an entry holds the character before it and a space.

    `printed` matches characters that the normalizer leaves as they are.
    """
    model = backend.model
    if (
        type(model).__name__ != "BPE"
        or model.continuing_subword_prefix
        or model.end_of_word_suffix
        or getattr(model, "ignore_merges", False)
    ):
        return None
    vocabulary = backend.get_vocab(with_added_tokens=False)
    before = _before(space, vocabulary)
    anchor = next((each for each in _ANCHORS if each not in before), None)
    if space not in vocabulary or anchor is None:
        return None
    unless = f"(?<![{re.escape(''.join(sorted(before)))}])" if before else ""
    return Cuts(re.compile(f"(?<={printed}){unless} "), anchor)


def _before(space: str, vocabulary: Iterable[str]) -> set[str]:
    """Give the characters that some entry holds before a space."""
    found: set[str] = set()
    for entry in vocabulary:
        at = entry.find(space, 1)
        while at > 0:
            found.add(entry[at - 1])
            at = entry.find(space, at + 1)
    return found - {space}
