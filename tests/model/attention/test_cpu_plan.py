from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instil.model.attention.cpu_plan import BLOCK, TOGETHER, plan_blocks


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=20),
    window=st.sampled_from([None, 1, 64, 65, 300]),
    num_groups=st.integers(1, 3),
    heads_a_group=st.integers(1, 3),
)
def test_every_query_meets_all_that_it_sees_of_its_own_example(
    lengths: list[int], window: int | None, num_groups: int, heads_a_group: int
):
    heads, tokens = num_groups * heads_a_group, sum(lengths)
    plan = plan_blocks(tuple(lengths), num_heads=heads, num_groups=num_groups, window=window)
    assert np.array_equal(plan.query_rows[plan.query_places], np.arange(tokens * heads))
    assert np.array_equal(plan.key_rows[plan.key_places], np.arange(tokens * num_groups))
    begins = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    met = 0
    for block in plan.blocks:
        assert block.count // num_groups in (1, 2, TOGETHER)
        queries = plan.gradient_rows[block.queries].reshape(block.count, heads_a_group, BLOCK)
        keys = plan.key_rows[block.keys].reshape(block.count, -1)[:, block.first : block.first + block.num_keys]
        for one, rows in zip(keys, queries, strict=True):
            real = rows[rows < tokens * heads]
            met += len(real)
            group = one[0] % num_groups
            assert set(real % heads // heads_a_group) == {group}
            for token in set(real // heads):
                place = token - begins[token]
                first = 0 if window is None else max(0, place - window + 1)
                columns = np.arange(first, place + 1) - block.first
                assert columns[0] >= 0
                assert np.array_equal(one[columns], (np.arange(first, place + 1) + begins[token]) * num_groups + group)
    assert met == tokens * heads
