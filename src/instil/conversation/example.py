"""The tokens of one training sequence with their weights: Example."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, Literal, Protocol

from instil.conversation.field_checks import check_number, shown, wrong
from instil.conversation.place import Place
from instil.errors import DataError
from instil.units import counted
from instil.views.html import frame
from instil.views.tokens import BareToken, mask_html
from instil.views.turns import one_line

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The label of a token that is context only, as in Hugging Face's losses."""
_NUM_IDS = 2**31  # a store holds ids in 32 bits


class TokenTexts(Protocol):
    """Gives the texts of ids, so that an example can be shown."""

    def texts(self, ids: Sequence[int], *, before: Sequence[int] = ()) -> list[str]:
        """Return the text of each id.

        Args:
            ids: The ids.
            before: The ids before them, which may begin a character that they end.
        """


@dataclass(frozen=True, slots=True, repr=False)
class Example:
    """The tokens of one training sequence, with the weight of each.

    ``weights[t]`` is the weight of *predicting* ``token_ids[t]`` from the tokens before it; 0 means context only.
    Nothing is shifted here: the loss shifts once. ``weights[0]`` is 0, because no token precedes the first one.

    Attributes:
        token_ids: T ids. The prompt part equals the ids that serving would send to the model.
        weights: T weights, ≥ 0.
        place: The conversation's place.
        turns: Indices of the messages trained in this example, in order.
        shortened: None, or how it was shortened: ``"kept_last_turns"``, ``"truncated_answer"``, ``"split"``.
        escaped: Number of control tokens typed in the data that were encoded as ordinary text.
        dropped: What the template did not print of the conversation, where `data.dropped_text` accepts that. A store
            does not keep it.
        side: In preference data, whether the example ends with the better or the worse answer (see `Conversation`).
        token_texts: Where a notebook finds the texts of the ids: `ChatTokenizer.encode` sets it. None: ids are shown.
            It is no part of the data: not compared, stored or pickled.

    Raises:
        DataError: If ids and weights are not two lists of one length.
    """

    token_ids: Sequence[int]
    weights: Sequence[float]
    place: Place | None = None
    turns: tuple[int, ...] = ()
    shortened: str | None = None
    escaped: int = 0
    dropped: tuple[str, ...] = ()
    side: Literal["chosen", "rejected"] | None = None
    token_texts: TokenTexts | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check the lengths. Numbers are checked where they are used, because there are millions."""
        if type(self.token_ids) is not list or type(self.weights) is not list:
            _check_list("Example.token_ids", self.token_ids)
            _check_list("Example.weights", self.weights)
        if len(self.token_ids) != len(self.weights):
            raise DataError(
                f"{self.place or 'Example'}: {len(self.weights)} weights for {len(self.token_ids)} tokens. Expected one "
                "per token. Pass both at the same length."
            )

    def __repr__(self) -> str:
        """Return place and sizes, on one line."""
        return one_line("Example", self.facts())

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the tokens, those that are trained in colour and brackets."""
        texts = [] if self.token_texts else ["ids only: ChatTokenizer.encode gives examples that know their texts"]
        return frame("Example", facts=[*self.facts(), *texts], body=mask_html(self._tokens, self.weights))

    def facts(self) -> list[str]:
        """Return place and sizes for people, some of them empty."""
        trained = sum(weight > 0 for weight in self._numbers()[1])
        shortened = f"shortened: {self.shortened}" if self.shortened else ""
        escaped = f"{counted(self.escaped, 'typed control token')} as text" if self.escaped else ""
        dropped = f"{counted(len(self.dropped), 'text')} dropped by the template" if self.dropped else ""
        tokens = counted(len(self.token_ids), "token")
        return [str(self.place or ""), self.side or "", tokens, f"{trained:,} trained", shortened, escaped, dropped]

    def _tokens(self, start: int, end: int) -> list[BareToken]:
        """Return the tokens of a range with their texts, or with their ids as texts."""
        ids = [int(token_id) for token_id in self.token_ids[start:end]]
        if self.token_texts is None:
            texts = [f" {token_id}" for token_id in ids]
        else:
            before = [int(token_id) for token_id in self.token_ids[max(0, start - 8) : start]]
            texts = self.token_texts.texts(ids, before=before)
        weights = self.weights[start:end]
        return [BareToken(*token) for token in zip(ids, texts, map(float, weights), strict=True)]

    def labels(self, ignored: int = IGNORED) -> list[int]:
        """Return the labels for Hugging Face's models: each trained token's id, and `ignored` elsewhere.

        They are not shifted; those models shift them. Weights other than 0 and 1 are lost (see `weights`).

        Args:
            ignored: Label of tokens that are context only.

        Raises:
            DataError: If an id or a weight is no number that can be one.

        Example:
            >>> Example([5, 6, 7], [0.0, 1.0, 1.0]).labels()
            [-100, 6, 7]
        """
        check_number("labels.ignored", ignored)
        return _labels(*self._numbers(), ignored=ignored)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return ``input_ids`` [T] and ``labels`` [T] as int64, and ``weights`` [T] as float32.

        Raises:
            DataError: As `labels`.
        """
        import torch  # Why: the records are used without torch.

        ids, weights = self._numbers()
        return {
            "input_ids": torch.tensor(ids, dtype=torch.int64),
            "labels": torch.tensor(_labels(ids, weights, ignored=IGNORED), dtype=torch.int64),
            "weights": torch.tensor(weights, dtype=torch.float32),
        }

    def _numbers(self) -> tuple[list[int], list[float]]:
        """Return ids and weights as Python's numbers."""
        try:
            ids = [index(token_id) for token_id in self.token_ids]
            weights = [float(weight) for weight in self.weights]
        except (TypeError, ValueError, OverflowError):
            ids, weights = [], [math.nan]
        if not (all(0 <= each < _NUM_IDS for each in ids) and all(0 <= weight < math.inf for weight in weights)):
            raise DataError(
                f"Example: found the ids {shown(self.token_ids)} and the weights {shown(self.weights)}. "
                "Expected whole numbers from 0 as ids, and finite numbers from 0 as weights. Correct them."
            )
        return ids, weights


def _labels(ids: Sequence[int], weights: Sequence[float], *, ignored: int) -> list[int]:
    return [token_id if weight > 0 else ignored for token_id, weight in zip(ids, weights, strict=True)]


def _check_list(field: str, value: object) -> None:
    if isinstance(value, str | bytes | Mapping | Set) or not hasattr(value, "__getitem__") or not _has_length(value):
        raise wrong(field, value, "a list of numbers")


def _has_length(value: object) -> bool:
    try:
        len(value)  # type: ignore[arg-type]
    except TypeError:  # a generator, a tensor of no dimension
        return False
    return True
