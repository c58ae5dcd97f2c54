"""The tokens of one training sequence with their weights: Example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from instil.conversation.place import Place
from instil.units import counted
from instil.views.html import frame
from instil.views.tokens import BareToken, mask_html
from instil.views.turns import one_line

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The label of a token that is context only, as in Hugging Face's losses."""


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
        token_texts: Where a notebook finds the texts of the ids: `ChatTokenizer.encode` sets it. None: ids are shown.
            It is no part of the data: not compared, stored or pickled.
    """

    token_ids: Sequence[int]
    weights: Sequence[float]
    place: Place | None = None
    turns: tuple[int, ...] = ()
    shortened: str | None = None
    escaped: int = 0
    dropped: tuple[str, ...] = ()
    token_texts: TokenTexts | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """Return place and sizes, on one line."""
        return one_line("Example", self.facts())

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the tokens, those that are trained in colour and brackets."""
        texts = [] if self.token_texts else ["ids only: ChatTokenizer.encode gives examples that know their texts"]
        return frame("Example", facts=[*self.facts(), *texts], body=mask_html(self._tokens, self.weights))

    def facts(self) -> list[str]:
        """Return place and sizes for people, some of them empty."""
        trained = sum(1 for weight in self.weights if weight > 0)
        shortened = f"shortened: {self.shortened}" if self.shortened else ""
        escaped = f"{counted(self.escaped, 'typed control token')} as text" if self.escaped else ""
        dropped = f"{counted(len(self.dropped), 'text')} dropped by the template" if self.dropped else ""
        tokens = counted(len(self.token_ids), "token")
        return [str(self.place or ""), tokens, f"{trained:,} trained", shortened, escaped, dropped]

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

        Example:
            >>> Example([5, 6, 7], [0.0, 1.0, 1.0]).labels()
            [-100, 6, 7]
        """
        pairs = zip(self.token_ids, self.weights, strict=True)
        return [int(token_id) if weight > 0 else ignored for token_id, weight in pairs]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return ``input_ids`` [T] and ``labels`` [T] as int64, and ``weights`` [T] as float32."""
        import torch  # Why: the records are used without torch.

        return {
            "input_ids": torch.tensor([int(token_id) for token_id in self.token_ids], dtype=torch.int64),
            "labels": torch.tensor(self.labels(), dtype=torch.int64),
            "weights": torch.tensor([float(weight) for weight in self.weights], dtype=torch.float32),
        }
