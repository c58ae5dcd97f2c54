"""Where code cannot be compiled, nothing is compiled, and answers are those of torch's operations."""

from __future__ import annotations

import subprocess
import sys

import pytest

REFUSE = """
import ctypes
loaded = ctypes.CDLL(None)
# PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN: from now on, memory that was written cannot be run.
if loaded.prctl(65, 1, 0, 0, 0) != 0:
    print("not refused")
    raise SystemExit
"""
ANSWER = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from instil.generation.decoder.kernels.machine import registers
from instil.generation.decoder.plain import PlainRows, plain_steps
torch.manual_seed(0)
config = LlamaConfig(vocab_size=97, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
steps = plain_steps(LlamaForCausalLM(config).eval())
rows = PlainRows(steps)
rows.add([[5, 6, 7], [8]])
print(registers() is None, rows.step(torch.tensor([9, 10])).double().sum(-1).tolist())
"""


def output_of(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses a process to run what it wrote")
def test_a_system_that_refuses_new_code_answers_all_the_same():
    refused = output_of(REFUSE + ANSWER)
    if refused == "not refused":
        pytest.skip("this kernel has no PR_SET_MDWE")
    none, sums = refused.split(" ", 1)
    assert none == "True"
    assert eval(sums) == pytest.approx(eval(output_of(ANSWER).split(" ", 1)[1]), abs=1e-3)
