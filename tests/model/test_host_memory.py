from __future__ import annotations

import torch

from instil.model.host_memory import SMALLEST, HostState, host_state_of


def test_between_steps_an_optimizer_holds_copies_and_keeps_its_counters():
    large, small = torch.nn.Parameter(torch.zeros(SMALLEST)), torch.nn.Parameter(torch.zeros(SMALLEST - 1))
    optimizer = torch.optim.AdamW([large, small], lr=0.1)
    assert host_state_of(optimizer) is None
    state = HostState(optimizer)
    assert host_state_of(optimizer) is state
    copies = []
    for _ in range(2):
        for weight in (large, small):
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        copies.append(optimizer.state[large]["exp_avg"])
    assert copies[0] is copies[1]  # memory is taken once
    assert torch.equal(copies[1][:-1], optimizer.state[small]["exp_avg"])
    assert float(copies[1][0]) > 0.15
    assert int(optimizer.state[large]["step"]) == 2
