"""The tokens of one training sequence with their weights: Example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instil.conversation.place import Place

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The label of a token that is context only, as in Hugging Face's losses."""


@dataclass(frozen=True, slots=True)
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
    """

    token_ids: Sequence[int]
    weights: Sequence[float]
    place: Place | None = None
    turns: tuple[int, ...] = ()
    shortened: str | None = None
    escaped: int = 0
    dropped: tuple[str, ...] = ()

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
