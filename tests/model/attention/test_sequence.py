"""How heads are dealt out; what the processes exchange is tested in tests/training/test_shared_tokens.py."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from instil.errors import ModelError
from instil.model.attention.sequence import SequenceGroup, deal_heads, part_of, to_heads, why_too_many


@given(num_key_heads=st.integers(1, 9), groups=st.integers(1, 8), size=st.integers(2, 9))
def test_each_query_head_is_dealt_once_and_attends_with_the_key_head_of_its_group(
    num_key_heads: int, groups: int, size: int
):
    num_heads = num_key_heads * groups
    if why_too_many(num_heads, size):
        return
    shares = deal_heads(num_heads, num_key_heads, size)
    assert len(shares) == size
    assert [head for share in shares for head in range(share.first, share.stop)] == list(range(num_heads))
    assert max(share.num_queries for share in shares) - min(share.num_queries for share in shares) <= 1
    for share in shares:
        assert share.num_queries % share.num_keys == 0  # as kernels expect of grouped heads
        for place, head in enumerate(range(share.first, share.stop)):
            assert share.keys[place // (share.num_queries // share.num_keys)] == head // groups


def test_a_process_gets_a_key_head_once_where_heads_divide():
    assert [share.keys for share in deal_heads(32, 8, 4)] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert [share.keys for share in deal_heads(32, 4, 8)] == [(0,), (0,), (1,), (1,), (2,), (2,), (3,), (3,)]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_parts_are_in_order_and_equally_long(size: int):
    parts = [part_of(12, rank=rank, size=size) for rank in range(size)]
    assert [token for part in parts for token in range(12)[part]] == list(range(12))
    assert {part.stop - part.start for part in parts} == {12 // size}


def test_fewer_heads_than_processes_are_refused_with_both_numbers():
    group = SequenceGroup(0, 4, cast(dist.ProcessGroup, None))
    heads = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ModelError, match=r"^LlamaAttention: it has 2 attention heads, fewer than the 4 processes .*"):
        to_heads(heads, heads, heads, group, name="LlamaAttention")
