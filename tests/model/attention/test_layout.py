"""Claims about the flat layout: boundaries as kernels expect them, positions by example, and who gets the layout."""

from __future__ import annotations

import pytest
import torch

from instil.model.attention.layout import FlatLayout, active_layout, positions_of, set_active_layout

LAYOUTS = [
    # lengths     boundaries      positions               tokens  longest
    ([4], [0, 4], [0, 1, 2, 3], 4, 4),
    ([1, 1, 1], [0, 1, 2, 3], [0, 0, 0], 3, 1),
    ([3, 1, 2], [0, 3, 4, 6], [0, 1, 2, 0, 0, 1], 6, 3),
]


@pytest.mark.parametrize(("lengths", "boundaries", "positions", "num_tokens", "longest"), LAYOUTS)
def test_the_layout_of_examples_laid_end_to_end(lengths, boundaries, positions, num_tokens, longest):
    layout = FlatLayout.of(lengths)
    assert layout.boundaries.tolist() == boundaries
    assert positions_of(lengths).tolist() == positions
    assert (layout.num_tokens, layout.longest) == (num_tokens, longest)


def test_every_boundary_is_a_position_of_zero():
    lengths = [3, 1, 2]
    starts = (positions_of(lengths) == 0).nonzero().flatten().tolist()
    assert starts == FlatLayout.of(lengths).boundaries[:-1].tolist()


def test_lengths_from_a_tensor_become_numbers_and_boundaries_are_int32():
    layout = FlatLayout.of(list(torch.tensor([2, 3])))
    assert layout.lengths == (2, 3)
    assert all(type(length) is int for length in layout.lengths)
    assert layout.boundaries.dtype == torch.int32  # variable-length kernels refuse int64


def test_boundaries_lie_on_the_requested_device():
    assert FlatLayout.of([2], device="meta").boundaries.device.type == "meta"


def test_the_active_layout_stays_until_it_is_replaced():
    first, second = FlatLayout.of([1]), FlatLayout.of([2])
    try:
        for layout in (first, second, None):
            set_active_layout(layout)
            assert active_layout() is layout
            assert active_layout() is layout  # a second look, as the backward pass of a checkpointed layer takes
    finally:
        set_active_layout(None)
