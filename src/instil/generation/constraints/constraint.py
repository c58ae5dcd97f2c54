"""A grammar made ready for one vocabulary, and its state in one answer.

llguidance computes the mask of each token: it walks the vocabulary as a tree of bytes, so it needs no table for each
grammar. A grammar is compiled once and copied for each answer.

Why: the limits below. A schema comes from a client, and one that needs more steps than these is refused or ends its
own answer; it does not stop the others.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instil.errors import GenerationError
from instil.model.to_device import to_device

_PROBED = 4
"""Tokens that are tried when a grammar is compiled."""
INSTALL = "pip install 'instil[serve]'"


class UnfinishedFormError(GenerationError):
    """An answer cannot go on, because its form takes more steps than allowed. Another form could."""


class GrammarTokenizer:
    """A tokenizer's vocabulary as llguidance reads it; made once for a model, because it takes about a second.

    Args:
        tokenizer: transformers' tokenizer.
        num_rows: Rows of the model's head; tokens past it cannot be generated.
        stop_ids: Ids that end an answer.
    """

    def __init__(self, tokenizer: Any, *, num_rows: int, stop_ids: Sequence[int]) -> None:
        self._tokenizer, self._num_rows, self._stop_ids = tokenizer, num_rows, stop_ids
        self._lock = threading.Lock()
        self._vocabulary: Any = None
        self.added_ids = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}

    def compile(self, grammar: str, place: str) -> Constraint:
        """Compile a grammar.

        Raises:
            GenerationError: If llguidance is missing, the tokenizer cannot be read, or the grammar is refused.
        """
        try:
            from llguidance import LLMatcher, LLParserLimits
        except ImportError:
            raise GenerationError(
                f"{place}: answers of a form need llguidance, which is not installed. Install it: {INSTALL}."
            ) from None
        limits = LLParserLimits(
            max_items_in_row=1_000, initial_lexer_fuel=2_000_000, step_lexer_fuel=200_000, step_max_items=50_000,
            max_lexer_states=20_000, max_grammar_size=100_000, precompute_large_lexemes=False, verbose_errors=False,
        )  # fmt: skip
        matcher = LLMatcher(self._read(place), grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise GenerationError(f"{place}: {_reason(matcher.get_error())}. Change the schema.")
        if not any(matcher.compute_bitmask()):
            raise GenerationError(f"{place}: no text satisfies it. Change the schema.")
        constraint = Constraint(matcher, place)
        # Most schemas that take too many steps do so in their first tokens. Here, the request can still be refused.
        probe = constraint.start()
        for _ in range(_PROBED):
            allowed = probe.apply(torch.zeros(self._num_rows)).isfinite().nonzero()[:, 0]
            probe.take(int(allowed[0]))
        return constraint

    def _read(self, place: str) -> Any:
        from llguidance.hf import from_tokenizer

        with self._lock:
            if self._vocabulary is None:
                if not self._stop_ids:
                    raise GenerationError(
                        f"{place}: the model has no stop token, so an answer of a form could not end."
                    )
                try:
                    self._vocabulary = from_tokenizer(
                        self._tokenizer,
                        n_vocab=max(self._num_rows, len(self._tokenizer)),
                        eos_token=list(self._stop_ids),
                    )
                except Exception as error:  # a Rust panic or ValueError for tokenizers of another kind
                    raise GenerationError(
                        f"{place}: llguidance cannot read this model's tokenizer ({error}). Expected byte-level BPE or "
                        "SentencePiece with byte fallback. Leave the form out."
                    ) from None
            return self._vocabulary


class Constraint:
    """A compiled grammar; `start` gives the state of one answer.

    Attributes:
        place: Where the schema stands, for messages.
    """

    def __init__(self, matcher: Any, place: str) -> None:
        self._matcher, self.place = matcher, place

    def start(self, begun_ids: Sequence[int] = ()) -> Matcher:
        """Return the state at an answer's first token.

        Args:
            begun_ids: Ids that begin the answer already.

        Raises:
            GenerationError: If an answer of this form cannot begin so.
        """
        matcher = self._matcher.deep_copy()
        if begun_ids and not matcher.consume_tokens(list(begun_ids)):
            raise GenerationError(
                f"{self.place}: the begun answer is not the beginning of an answer of this form. Change one of them."
            )
        return Matcher(matcher, self.place)


class Matcher:
    """The state of one answer."""

    def __init__(self, matcher: Any, place: str) -> None:
        self._matcher, self._place = matcher, place

    def apply(self, logits: Tensor) -> Tensor:
        """Return logits [V] with -inf for every token that would leave the form.

        Raises:
            UnfinishedFormError: If the grammar takes more steps than allowed at this place.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = torch.from_numpy(np.unpackbits(bits, bitorder="little")[: logits.shape[-1]]).bool()
        if self._matcher.is_error() or not bool(allowed.any()):
            reason = _reason(self._matcher.get_error()) or "no token can follow"
            raise UnfinishedFormError(
                f"{self._place}: the answer cannot go on ({reason}). Expected a form that can be followed to its end. "
                "Use a simpler schema."
            )
        if allowed.shape[-1] < logits.shape[-1]:
            allowed = torch.nn.functional.pad(allowed, (0, logits.shape[-1] - allowed.shape[-1]))
        return logits.masked_fill(to_device(~allowed, logits.device), float("-inf"))

    def take(self, token_id: int) -> None:
        """Append the chosen token."""
        self._matcher.consume_token(token_id)


def _reason(error: str) -> str:
    """Return what llguidance says without its position in the grammar, on one line.

    Example:
        >>> _reason('at 2(4): failed to compile JSON schema: Unsatisfiable schema: a')
        'Unsatisfiable schema: a'
    """
    text = re.sub(r"^at \d+\(\d+\): |failed to compile JSON schema: ", "", error.split("\n   1 |")[0])
    text = " ".join(re.sub(r"<non-verbose/>|<state>.*", "", text, flags=re.DOTALL).split())
    return text[:200].rstrip(". ")
