"""How the cost of a step grows with its tokens, and what a larger vocabulary costs.

    python benchmarks/scaling.py [--tokens 1024,4096,16384,65536] [--shape tiny-llama-3.2-1b] [--repeats 3] [--threads N]

Steps of a random model over examples of 256 tokens, half of them trained: seconds a thousand tokens should stay the same from the
smallest step to the largest. Then the same step with once and twice the vocabulary, each in a process of its own: what the peak
of the resident size grows by, beside the weights, gradients and optimizer state of embedding and head, and one chunk of logits.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from shapes import SHAPES

LENGTH = 256
VOCABULARY = 16384


def make_learner(shape: str, vocabulary: int, tokens: int) -> Any:
    """Make a random model in training, with the examples of one step in its store."""
    import numpy as np
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from instil.conversation import Example
    from instil.data.prepared import ExampleStore
    from instil.model import attention
    from instil.model.loss import TokenLoss
    from instil.training.optimizer import build_optimizers, tensor_kinds
    from instil.training.precision import Weights, choose_precision
    from instil.training.ranks import Ranks
    from instil.training.step import Learner

    settings = dict(SHAPES[shape]) | {"vocab_size": vocabulary}
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.register())
    device = torch.device("cpu")
    weights = Weights(model, choose_precision("fp32", device))
    optimizers = build_optimizers(weights.by_name, tensor_kinds(model), lr=1e-5)
    random = np.random.default_rng(0)
    trained = (np.arange(LENGTH) >= LENGTH // 2).astype(np.float32)
    examples = [Example(random.integers(0, vocabulary, LENGTH), trained) for _ in range(tokens // LENGTH)]
    return Learner(TokenLoss(model).train(), weights, optimizers, ExampleStore.from_examples(examples), Ranks(0, 1, device))  # fmt: skip


def seconds_of_step(learner: Any, tokens: int) -> float:
    """Take one step over the first so many tokens of the store, and give its seconds."""
    from instil.training.order import Members
    from instil.training.step import Cut, take_step

    members = Members(1, 0, tuple(range(tokens // LENGTH)))
    start = time.perf_counter()
    take_step(learner, members, cut=Cut(2048), seed=0, learning_rate=1e-5, clip=1.0)
    return time.perf_counter() - start


def peak_of(shape: str, vocabulary: int) -> dict[str, float]:
    """Take two steps in this process, and give its peak and the size of embedding and head, in MB."""
    learner = make_learner(shape, vocabulary, 2048)
    for _ in range(2):
        seconds_of_step(learner, 2048)
    model = learner.loss.model
    tables = {id(m.weight): m.weight.nbytes for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    return {
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
        "tables_mb": sum(tables.values()) / 2**20,
    }


def main() -> None:
    """Measure both."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="1024,4096,16384,65536")
    parser.add_argument("--shape", default="tiny-llama-3.2-1b", choices=sorted(SHAPES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of:
        print(json.dumps(peak_of(given.shape, given.peak_of)))
        return
    sizes = [int(size) for size in given.tokens.split(",")]
    learner = make_learner(given.shape, VOCABULARY, max(sizes))
    seconds_of_step(learner, sizes[0])
    cost = {
        size: statistics.median(seconds_of_step(learner, size) for _ in range(given.repeats)) / size * 1000
        for size in sizes
    }
    for size, value in cost.items():
        print(f"{size:>7,} tokens: {value:.4f} s a thousand")
    words = [sys.executable, __file__, "--shape", given.shape, "--threads", str(given.threads), "--peak-of"]
    once, twice = (
        json.loads(subprocess.run([*words, str(size)], capture_output=True, text=True, check=True).stdout)
        for size in (VOCABULARY, 2 * VOCABULARY)
    )
    grown = twice["peak_mb"] - once["peak_mb"]
    expected = 4 * (twice["tables_mb"] - once["tables_mb"])  # weight, gradient, two moments
    print(
        f"vocabulary {VOCABULARY:,} -> {2 * VOCABULARY:,}: peak +{grown:.0f} MB, tables and their state +{expected:.0f} MB"
    )
    print(json.dumps({"seconds_a_thousand": cost, "peak_grown_mb": grown, "tables_grown_mb": expected}))


if __name__ == "__main__":
    main()
