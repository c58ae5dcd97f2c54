"""Where the keys and values of rows lie: growing and moving change none of them."""

from __future__ import annotations

import torch

from instil.generation.decoder.slots import Slots


def filled(lengths: list[int]) -> Slots:
    slots = Slots(2, num_heads=1, width=2, dtype=torch.float32)
    slots.reserve(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        for tensor in (*slots.keys, *slots.values):
            tensor[row, :, :length] = row + 1
    slots.lengths = list(lengths)
    return slots


def owners(slots: Slots) -> list[set[float]]:
    found = []
    for row, length in enumerate(slots.lengths):
        values = {
            float(value) for tensor in (*slots.keys, *slots.values) for value in tensor[row, 0, :length].flatten()
        }
        found.append(values)
    return found


def test_growing_keeps_rows_and_fills_the_rest_with_numbers():
    slots = filled([3, 5])
    slots.reserve(7, 1000)
    assert owners(slots) == [{1.0}, {2.0}]
    assert slots.keys[0].shape[0] >= 7
    assert slots.keys[0].shape[2] >= 1000
    assert slots.values[1].isfinite().all()
    columns = slots.keys[0].shape[2]
    slots.reserve(7, columns)
    assert slots.keys[0].shape[2] == columns


def test_a_gap_is_filled_in_place_and_any_other_order_is_possible():
    slots = filled([3, 5, 2, 4])
    first = slots.keys[0].data_ptr()
    slots.keep([3, 1, 2])
    assert owners(slots) == [{4.0}, {2.0}, {3.0}]
    assert slots.lengths == [4, 5, 2]
    assert slots.keys[0].data_ptr() == first
    slots.keep([1, 0])
    assert owners(slots) == [{2.0}, {4.0}]
    assert slots.lengths == [5, 4]
