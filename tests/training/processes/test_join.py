from __future__ import annotations

import pytest
import torch

from instil.training.processes.join import is_left_alone, last_line


@pytest.mark.parametrize(
    ("error", "alone"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:5"), True),
        (torch.distributed.DistNetworkError("failed to recv, got 0 bytes"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
    ],
)  # fmt: skip
def test_a_broken_sum_is_told_from_a_mistake(error: RuntimeError, alone: bool):
    assert is_left_alone(error) == alone
    assert "pair.cc" not in last_line(error)


def test_the_advice_in_a_broken_sum_is_left_out():
    said = (
        "[/third_party/gloo/pair.cc:547] Connection closed by peer [127.0.0.1]:5. This is typically caused by a crash."
    )
    assert last_line(RuntimeError(said)) == "Connection closed by peer [127.0.0.1]:5"
