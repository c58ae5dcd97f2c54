"""Write a randomly initialised model folder in the shape of a published model.

    python benchmarks/shapes.py smollm2-135m OUT [--model FOLDER] [--dtype bfloat16] [--layers N] [--seed 0]

Why: speed and memory depend on the shape of a model, not on its weights, so benchmarks need no download. The files of
the tokenizer that --model names are copied beside the weights; without --model the folder has none. A vocabulary larger
than the tokenizer's keeps its published size. Takes no data.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from options import count

LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "tie_word_embeddings": True,
    },
    "llama-3.2-1b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_parameters": LLAMA_3_ROPE,
        "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_parameters": LLAMA_3_ROPE | {"factor": 8.0},
        "tie_word_embeddings": False,
    },
    "llama-3.1-70b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_parameters": LLAMA_3_ROPE | {"factor": 8.0},
        "tie_word_embeddings": False,
    },
    "qwen3-4b": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "tie_word_embeddings": True,
    },
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
SHAPES |= {f"tiny-{name}": shape | TINY for name, shape in list(SHAPES.items())}


def build_config(name: str, **changes: Any) -> Any:
    """Return the transformers config of a shape.

    Args:
        name: Key of `SHAPES`.
        changes: Settings instead of the published ones.
    """
    from transformers import AutoConfig

    return AutoConfig.for_model(**(SHAPES[name] | changes))


def write_shape(
    name: str,
    out: Path,
    *,
    tokenizer: Path | None = None,
    dtype: str = "float32",
    layers: int | None = None,
    seed: int = 0,
) -> int:
    """Write a model folder with random weights; return its number of parameters.

    Args:
        name: Key of `SHAPES`.
        out: New folder to write.
        tokenizer: Folder with the tokenizer to copy; None for a folder without one.
        dtype: Type of the weights.
        layers: Number of layers, instead of the published one.
        seed: Seed of the weights.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if out.exists():
        sys.exit(f"{out}: exists already. Name a new folder.")
    changes = {} if layers is None else {"num_hidden_layers": layers}
    if tokenizer is not None:
        tokens = AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
        largest = SHAPES[name]["vocab_size"]
        if len(tokens) > largest:
            sys.exit(f"{tokenizer}: {len(tokens)} tokens. Expected at most {largest}, as {name} has. Choose another.")
        changes |= {"bos_token_id": tokens.bos_token_id, "eos_token_id": tokens.eos_token_id, "pad_token_id": None}
    config = build_config(name, **changes)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(str(out))
    if tokenizer is not None:
        # Copy the files as they are: saving the loaded tokenizer could write them in another form.
        for path in tokenizer.iterdir():
            if path.is_file() and (
                "token" in path.name or path.name in {"vocab.json", "merges.txt", "chat_template.jinja"}
            ):
                shutil.copy(path, out / path.name)
    return sum(parameter.numel() for parameter in model.parameters())


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(SHAPES))
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--model",
        "--tokenizer",
        metavar="FOLDER | owner/name | demo",
        help="whose tokenizer lies beside the weights; default: none",
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--layers", type=count)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    """Read the command line and write one folder."""
    from instil import InstilError
    from instil.model.folder.location import locate_tokenizer

    args = build_parser().parse_args()
    try:
        tokenizer = locate_tokenizer(args.model).tokenizer_folder if args.model else None
    except InstilError as error:
        raise SystemExit(str(error)) from None
    num_parameters = write_shape(
        args.name, args.out, tokenizer=tokenizer, dtype=args.dtype, layers=args.layers, seed=args.seed
    )
    print(f"{args.out}: {args.name}, {num_parameters:,} parameters, {args.dtype}")


if __name__ == "__main__":
    main()
