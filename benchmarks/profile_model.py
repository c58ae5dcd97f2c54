"""Profile one forward and backward pass of a random model: self times by kind of work.

    python benchmarks/profile_model.py smollm2-135m [--precision bf16] [--layers 8] [--threads 1]
                                                    [--lengths 180,240,150,310]

Takes no data: ids are random. Read the shares: unlike the seconds, they stay valid on a busy machine.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from options import count, counts
from shapes import SHAPES, build_config

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::addmm_", "aten::linear", "aten::matmul"),
    "attention": ("aten::bmm", "aten::_softmax", "_AttentionBackward", "_Attention", "flash_attention"),
    "softmax over the vocabulary": ("aten::_log_softmax", "aten::exp_", "aten::scatter_", "aten::gather", "_HeadLoss"),
    "filling": ("aten::fill_", "aten::zero_"),
    "copies and casts": ("aten::copy_", "aten::cat", "aten::clone"),
    "additions": ("aten::add", "aten::add_", "AccumulateGrad", "EmbeddingBackward"),
}


def kind_of(name: str) -> str:
    """Return the kind of work of a profiled operation."""
    for kind, names in KINDS.items():
        if any(name == known or (not known.startswith("aten::") and known in name) for known in names):
            return kind
    return "norms, rotations, activations and the rest"


def build(name: str, *, layers: int | None, dtype: torch.dtype) -> Any:
    """Build a random model of a shape, with the attention, gates and norms of training."""
    from transformers import AutoModelForCausalLM

    from instil.model.attention.flat import register_attention
    from instil.model.loading import lighten_layers

    config = build_config(name, **({} if layers is None else {"num_hidden_layers": layers}))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=register_attention())
    lighten_layers(model, torch.device("cpu"))
    return model.train()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--layers", type=count)
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument(
        "--lengths", type=counts, default="180,240,150,310,205,260,170,220", help="tokens of the examples"
    )
    parser.add_argument("--trained", type=float, default=0.55, help="share of each example that is trained")
    return parser


def main() -> None:
    """Run one pass as a warm-up, then profile one."""
    from torch.profiler import profile

    from instil.model.attention.layout import positions_of
    from instil.model.loss.token_loss import TokenLoss, targets_of

    args = build_parser().parse_args()
    torch.set_num_threads(args.threads)
    model = build(args.shape, layers=args.layers, dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[args.precision])
    lengths = args.lengths
    ids = torch.randint(0, model.config.vocab_size, (sum(lengths),))
    weights = torch.cat([(torch.arange(n) >= n * (1 - args.trained)).float() for n in lengths])
    targets, weights = targets_of(ids, weights, lengths)
    loss = TokenLoss(model)

    def one_pass() -> None:
        loss(ids, positions_of(lengths), lengths, targets, weights).div(weights.sum()).backward()

    one_pass()
    with profile() as profiled:
        one_pass()
    seconds: dict[str, float] = {}
    for event in profiled.key_averages():
        kind = kind_of(event.key)
        seconds[kind] = seconds.get(kind, 0.0) + event.self_cpu_time_total / 1e6
    total = sum(seconds.values())
    print(f"{args.shape}, {args.precision}, {sum(lengths)} tokens, {int((weights > 0).sum())} trained: {total:.2f} s")
    for kind, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"  {value / total:6.1%}  {kind}")


if __name__ == "__main__":
    main()
