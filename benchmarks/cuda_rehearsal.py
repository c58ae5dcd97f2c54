"""Check what instil does on CUDA without a GPU: kernels taken, compiled code, and the memory estimate.

    python benchmarks/cuda_rehearsal.py                          all parts that this torch allows
    python benchmarks/cuda_rehearsal.py --only memory            the estimate beside the allocator, in any build of torch
    python benchmarks/cuda_rehearsal.py --only memory --cases smollm2-135m:full,llama-3.2-1b:lora:recomputed

Takes no data: tensors have shapes and no bytes. `kernels` and `code` need a CUDA build of torch (`pip install torch` on Linux), no driver.

kernels
    Which attention runs for precisions, widths, windows and devices. It runs on fake tensors of the device `cuda`, which
    finds wrong devices, dtypes and shapes, and how the installed operator is called.
code
    The arithmetic of a block around attention, forward and backward, compiled by Inductor and Triton for compute
    capability 8.0 and 9.0 up to the binary.
memory
    Two steps on tensors without bytes. Their allocations go to a replay of torch's caching allocator. Beside the estimate of
    `instil plan` stand the most that was in use, and the smallest card in which all of them succeed.

Not possible without a driver: a backward pass of fake CUDA tensors (autograd's engine asks the driver), so `memory` takes torch's `meta`
device and CUDA's ways; TorchDynamo with CUDA tensors (it asks for the stream), so `code` is traced without it; running anything.
The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from cuda_memory import Case, record_step
from options import words_of

CASES = {
    "smollm2-135m:full": Case("smollm2-135m"),
    "smollm2-135m:full:fp32": Case("smollm2-135m", precision="fp32"),
    "llama-3.2-1b:full": Case("llama-3.2-1b"),
    "llama-3.2-1b:full:16k": Case("llama-3.2-1b", tokens=16384),
    "llama-3.2-1b:full:recomputed": Case("llama-3.2-1b", recompute=True),
    "llama-3.2-1b:full:one": Case("llama-3.2-1b", micro_batches=1),
    "llama-3.2-1b:lora": Case("llama-3.2-1b", adapter="lora"),
    "llama-3.2-1b:lora:recomputed": Case("llama-3.2-1b", adapter="lora", recompute=True),
    "qwen3-4b:lora": Case("qwen3-4b", adapter="lora"),
    "llama-3.1-8b:full:recomputed": Case("llama-3.1-8b", recompute=True),
    "llama-3.1-8b:lora:recomputed": Case("llama-3.1-8b", adapter="lora", recompute=True),
    "smollm2-135m:qlora": Case("smollm2-135m", adapter="lora", quantize="4bit"),
    "llama-3.2-1b:qlora": Case("llama-3.2-1b", adapter="lora", quantize="4bit"),
    "llama-3.2-1b:qlora:recomputed": Case("llama-3.2-1b", adapter="lora", quantize="4bit", recompute=True),
    "llama-3.1-8b:qlora:recomputed": Case("llama-3.1-8b", adapter="lora", quantize="4bit", recompute=True),
}
CAPABILITIES = ((8, 0), (9, 0))
KERNELS = (
    # dtype, capability, query heads, key heads, width, window, and what should run
    (torch.bfloat16, (9, 0), 8, 8, 64, None, "varlen"),
    (torch.bfloat16, (9, 0), 8, 2, 64, None, "varlen"),
    (torch.bfloat16, (8, 0), 8, 2, 128, 5, "varlen"),
    (torch.float16, (8, 0), 8, 1, 256, None, "varlen"),
    (torch.bfloat16, (9, 0), 8, 2, 288, None, "by example, equal heads"),
    (torch.bfloat16, (9, 0), 8, 2, 36, None, "by example"),
    (torch.float32, (9, 0), 8, 2, 64, None, "by example, equal heads"),
    (torch.float16, (7, 5), 8, 2, 64, None, "by example, equal heads"),
    (torch.float16, (7, 5), 8, 8, 64, None, "by example"),
)


def kernels() -> list[dict[str, Any]]:
    """Run attention on fake CUDA tensors; return the kernel of each case."""
    from unittest import mock

    from torch._subclasses.fake_tensor import FakeTensorMode

    from instil.model.attention import by_example, flat
    from instil.model.attention.layout import FlatLayout
    from instil.model.attention.varlen import why_no_varlen

    found = []
    for dtype, capability, heads, groups, width, window, expected in KERNELS:
        ran: list[str] = []

        def varlen(*given: Any, ran: list[str] = ran, attend: Any = flat.attend_varlen, **named: Any) -> Any:
            ran.append("varlen")
            return attend(*given, **named)

        def sdpa(
            query: Any, key: Any, value: Any, ran: list[str] = ran, grouped: bool = heads != groups, **named: Any
        ) -> Any:
            ran.append("by example" + (", equal heads" if grouped and not named["enable_gqa"] else ""))
            return query.new_empty((*query.shape[:3], value.shape[-1]))

        why_no_varlen.cache_clear()
        with (
            mock.patch.object(torch.cuda, "get_device_capability", return_value=capability),
            mock.patch.object(flat, "attend_varlen", varlen),
            mock.patch.object(by_example.F, "scaled_dot_product_attention", sdpa),
            FakeTensorMode(),
        ):
            query, key = (torch.empty(1, number, 12, width, device="cuda", dtype=dtype) for number in (heads, groups))
            layout = FlatLayout((7, 5), torch.empty(3, dtype=torch.int32, device="cuda"))
            output, _ = flat.attend(
                torch.nn.Module(), query, key, key, None, instil_layout=layout, sliding_window=window
            )
            assert output.shape == (1, 12, heads, width)
            assert output.device.type == "cuda"
            assert output.dtype == dtype
        why_no_varlen.cache_clear()
        case = {
            "dtype": str(dtype).removeprefix("torch."),
            "capability": ".".join(map(str, capability)),
            "heads": f"{heads}/{groups}",
            "width": width,
            "window": window,
            "ran": ran[0],
            "as_expected": set(ran) == {expected},
        }
        found.append(case)
        print(" ".join(f"{key} {value}" for key, value in case.items()), flush=True)
    return found


def memory(names: list[str]) -> list[dict[str, Any]]:
    """Return the estimate and the replay of each case, in GiB."""
    from allocator import replay, smallest

    found = []
    for name in names:
        started = time.perf_counter()
        recorder, estimate = record_step(CASES[name], device=torch.device("meta"))
        needed, card = replay(recorder.events), smallest(recorder.events)
        case = {
            "case": name,
            "planned": round(estimate.peak / 2**30, 2),
            "in_use": round(needed.peak_allocated / 2**30, 2),
            "card": round(card / 2**30, 2),
            "planned_over_in_use": round(estimate.peak / needed.peak_allocated, 3),
            "planned_over_card": round(estimate.peak / card, 3),
            "allocations": sum(1 for event in recorder.events if event.size),
        }
        found.append(case)
        print(
            f"{name:32s} planned {case['planned']:6.2f} in use {case['in_use']:6.2f} card {case['card']:6.2f} GiB: "
            f"{case['planned_over_in_use']:.3f}, {case['planned_over_card']:.3f} "
            f"({time.perf_counter() - started:.0f} s)",
            flush=True,
        )
    return found


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=words_of("kernels", "code", "memory"), help="parts; default: all that can run")
    parser.add_argument("--cases", type=words_of(*CASES), default=list(CASES), help="of memory; default: all")
    return parser


def main() -> None:
    """Run the parts and print what they found."""
    args = build_parser().parse_args()
    has_cuda = torch.version.cuda is not None
    parts = args.only or (["kernels", "code", "memory"] if has_cuda else ["memory"])
    if not has_cuda and set(parts) - {"memory"}:
        raise SystemExit(
            f"torch {torch.__version__}: no CUDA build. Expected one for kernels and code. Leave them out, or install one."
        )
    found: dict[str, Any] = {"torch": torch.__version__}
    if "kernels" in parts:
        found["kernels"] = kernels()
    if "code" in parts:
        from cuda_code import compile_ahead

        found["code"] = [compile_ahead(capability) for capability in CAPABILITIES]
    if "memory" in parts:
        found["memory"] = memory(args.cases)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
