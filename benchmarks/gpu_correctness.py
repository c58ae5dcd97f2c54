"""The cells of gpu.py that are right or wrong: a GPU's numbers beside the CPU's, masks, and bits after a resume.

Each takes a `Place` and returns an `Outcome`.
"""

from __future__ import annotations

import copy
import hashlib
import platform
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from gpu_device import CPU, Device
from gpu_model import Training, Work, build_model, config_of, largest_difference, losses, tiny, with_adapters

PACKAGES = ("transformers", "peft", "trl", "bitsandbytes", "triton", "instil")
SMALL = Work("tiny-llama-3.2-1b", tokens=512, micro_batches=2, lr=1e-3)
STEPS = 4
SAME = {"fp32": 2e-4, "bf16": 2e-2}
"""Largest relative difference of losses that rounding explains, after a few steps of a tiny model."""
NEAR = 0.02
"""Largest relative distance of attention in bf16 from fp32, output and gradients."""
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "mistral": {"sliding_window": 4},
    "gemma2": {"sliding_window": 4, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0},
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
NOT_ON_THE_CPU = ("gpt_oss",)
"""Architectures whose code takes operators on a device that torch has for no CPU, on which the stand-in computes."""
TINY = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
}


@dataclass(frozen=True)
class Place:
    """Where a cell works.

    Attributes:
        device: The device.
        scratch: A new folder.
    """

    device: Device
    scratch: Path


@dataclass(frozen=True)
class Outcome:
    """What a cell found.

    Attributes:
        figures: What was measured.
        wrong: What is wrong, in words; None if nothing is, or if the cell only measures.
    """

    figures: dict[str, Any]
    wrong: str | None = None


def version_of(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine(place: Place) -> Outcome:
    """Return what the machine is, and the kernel that attention takes."""
    from instil.model.attention.flat import describe_attention
    from instil.model.device_memory import free_bytes

    device = place.device
    figures: dict[str, Any] = {
        "device": device.name,
        "attention": describe_attention(device=device.torch, dtype=torch.bfloat16),
        "matmul_tflops": round(device.matrix_rate() / 1e12, 1),
        "free_gb": round(free_bytes(device.torch) / 2**30, 1),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version()}
        | {name: version for name in PACKAGES if (version := version_of(name))},
    }
    if not device.is_faked:
        figures["capability"] = list(torch.cuda.get_device_capability())
    return Outcome(figures)


def attention(place: Place) -> Outcome:
    """Compare attention in bf16, forward and backward, with the CPU's in fp32, for heads, widths and windows."""
    from instil.model.attention.by_example import Features, attend_by_example
    from instil.model.attention.flat import _run
    from instil.model.attention.layout import FlatLayout

    lengths = [33, 1, 14] if place.device.is_faked else [700, 1, 323]
    figures, wrong = {}, []
    for heads, groups, width, window in ((8, 8, 64, None), (8, 2, 64, None), (8, 2, 128, 5), (4, 1, 256, None)):
        torch.manual_seed(0)
        sizes = (heads, groups, groups)
        numbers = [torch.randn(1, number, sum(lengths), width).to(torch.bfloat16) for number in sizes]
        features = Features(scale=width**-0.5, window=window)
        found = []
        for device, dtype in ((place.device.torch, torch.bfloat16), (torch.device("cpu"), torch.float32)):
            inputs = [one.to(device=device, dtype=dtype).requires_grad_() for one in numbers]
            run = _run if dtype == torch.bfloat16 else attend_by_example
            output = run(*inputs, layout=FlatLayout.of(lengths, device=device), features=features)
            output.float().square().sum().backward()
            found.append([output.detach().float().cpu(), *(one.grad.float().cpu() for one in inputs)])
        distance = max(float((a - b).norm() / b.norm()) for a, b in zip(*found, strict=True))
        name = f"{heads}/{groups} heads of {width}, window {window}"
        figures[name] = round(distance, 5)
        if not distance < NEAR:
            wrong.append(f"{name}: {distance:.4f} away. Expected at most {NEAR}.")
    return Outcome(figures, " ".join(wrong) or None)


def masks(place: Place) -> Outcome:
    """Probe architectures on the device: transformers' masks, nothing of the tokens after, nothing of neighbours."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from instil import InstilError
    from instil.model.attention.flat import register_attention
    from instil.model.probe import probe

    figures, wrong = {}, []
    for name, settings in ARCHITECTURES.items():
        if place.device.is_faked and name in NOT_ON_THE_CPU:
            continue
        for dtype in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            config = AutoConfig.for_model(name, **TINY, **settings)
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=register_attention())
            try:
                found = probe(with_adapters(model, SMALL, place.device.torch).to(place.device.torch))
            except InstilError as error:
                wrong.append(str(error))
                continue
            figures[f"{name} {str(dtype).removeprefix('torch.')}"] = {"moved": found.moved, "apart": found.apart}
            if found.one_by_one:
                wrong.append(f"{name} in {dtype}: {found.because}. Expected examples laid end to end.")
    return Outcome(figures, " ".join(wrong) or None)


def losses_beside_cpu(place: Place, *, shape: str, adapter: str, precision: str, optimizer: str = "adamw") -> Outcome:
    """Compare the losses of the first steps with those of the CPU, on the same rows and weights."""
    if place.device.is_faked and optimizer == "adamw_8bit":
        place = replace(place, device=CPU)
    work = replace(SMALL, shape=shape, adapter=adapter, precision=precision, optimizer=optimizer)
    work = tiny(work, place.device)
    start = copy.deepcopy(build_model(work, torch.device("cpu")).state_dict())
    here = losses(work, place.device, steps=STEPS, like=start)
    cpu = losses(work, CPU, steps=STEPS, like=start)
    return _compared(here, cpu, limit=SAME[precision], names=("device", "cpu"))


def _compared(first: list[float], second: list[float], *, limit: float, names: tuple[str, str]) -> Outcome:
    difference = largest_difference(first, second)
    figures = {names[0]: first, names[1]: second, "difference": difference, "limit": limit}
    wrong = None if difference <= limit else f"losses differ by {difference:.2e}. Expected at most {limit:.0e}."
    return Outcome(figures, wrong)


def cut(place: Place) -> Outcome:
    """Compare one micro-batch a step with many, and activations kept with activations recomputed."""
    work = tiny(replace(SMALL, precision="fp32"), place.device)
    whole = replace(work, tokens=work.tokens * work.micro_batches, micro_batches=1)
    one = losses(whole, place.device, steps=STEPS)
    outcomes = {
        "many": _compared(losses(work, place.device, steps=STEPS), one, limit=1e-5, names=("many", "one")),
        "recomputed": _compared(
            losses(replace(whole, recompute=True), place.device, steps=STEPS),
            one,
            limit=1e-5,
            names=("recomputed", "kept"),
        ),
    }
    wrong = " ".join(f"{name}: {outcome.wrong}" for name, outcome in outcomes.items() if outcome.wrong)
    return Outcome({name: outcome.figures for name, outcome in outcomes.items()}, wrong or None)


def resume(place: Place, *, adapter: str) -> Outcome:
    """Compare the bits of a run with those of the same run again, and of one that was stopped and resumed."""
    from instil import train

    rows = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]
    steps = 4 if place.device.is_faked else 10
    settings: dict[str, Any] = {
        "model": "demo",
        "device": str(place.device.torch.type),
        "adapter": {"kind": "none" if adapter == "full" else "lora"},
        "training": {"max_steps": steps, "batch_size": 4, "neftune_alpha": 5.0, "precision": "bf16"},
        "evaluate": {"every": steps, "max_new_tokens": 4, "at_start": False},
        "checkpoint": {"every": 2},
    }

    def bits(name: str, *, stop_after: int | None = None) -> tuple[str, list[float]]:
        output = str(place.scratch / name)
        if stop_after is not None:
            taken = 0
            for event in train(data=rows, output=output, quiet=True, follow=True, **settings):
                taken += type(event).__name__ == "StepTaken"
                if taken == stop_after:
                    break
        run = train(data=rows, output=output, quiet=True, resume=stop_after is not None, **settings)
        files = sorted((Path(output) / "model").rglob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{output}: no weights in model/")
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.read_bytes())
        return digest.hexdigest(), [line["loss"] for line in run.metrics() if "loss" in line]

    first, again, resumed = bits("first"), bits("again"), bits("resumed", stop_after=steps // 2)
    figures = {"first": first, "again": again, "resumed": resumed}
    wrong = [name for name in ("again", "resumed") if figures[name] != first]
    return Outcome(figures, f"other bits: {', '.join(wrong)}. Expected those of the first run." if wrong else None)


def compiled(place: Place) -> Outcome:
    """Compare the losses of compiled blocks with those of plain ones."""
    work = tiny(replace(SMALL, precision="bf16"), place.device)
    plain = losses(work, place.device, steps=STEPS)
    return _compared(
        losses(replace(work, compiled=True), place.device, steps=STEPS),
        plain,
        limit=SAME["bf16"],
        names=("compiled", "plain"),
    )


def answers(place: Place) -> Outcome:
    """Compare greedy answers of the demo's base model with the CPU's, in fp32."""
    from instil import load_model

    prompts = ["What is 2+3?", "Name a colour.", "Count to five."]
    found = []
    for device in (place.device.torch.type, "cpu"):
        model = load_model("demo", device=device, precision="fp32", template="chatml")
        found.append([model.chat(prompt, max_new_tokens=12).text for prompt in prompts])
    same = found[0] == found[1]
    return Outcome({"device": found[0], "cpu": found[1]}, None if same else "other answers than the CPU's.")


def nccl(place: Place) -> Outcome:
    """Compare a run whose weights lie in shards over one rank with a plain one, and a sum over that rank with itself."""
    import torch.distributed as dist

    device = place.device
    if device.is_faked:  # its group has no backend of its own
        device = CPU
    store = dist.FileStore(str(place.scratch / "store"), 1)
    backend = "gloo" if device.is_faked else "nccl"
    bound = None if device.is_faked else torch.device("cuda", 0)
    dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=bound)
    try:
        numbers = torch.arange(1000.0, device=device.torch)
        total = numbers.clone()
        dist.all_reduce(total)
        work = tiny(replace(SMALL, precision="bf16"), device)
        plain = losses(work, device, steps=STEPS)
        outcome = _compared(
            losses(work, device, steps=STEPS, sharded=True), plain, limit=SAME["bf16"], names=("shards", "plain")
        )
    finally:
        dist.destroy_process_group()
    figures = {"backend": backend, **outcome.figures}
    return Outcome(
        figures, outcome.wrong if torch.equal(total, numbers) else "a sum over one rank changed the numbers."
    )


def qlora(place: Place) -> Outcome:
    """Compare the losses of LoRA on a 4-bit base with the CPU's, on the same folder."""
    device = CPU if place.device.is_faked else place.device
    work = replace(SMALL, shape="tiny-smollm2-135m", adapter="lora", tokens=256)
    folder = place.scratch / "model"
    write_base(work, folder, device)
    found = []
    for where in (device, CPU):
        training = Training(work, load_quantized(work, folder, where), where, steps=STEPS, quantize="4bit")
        found.append([training.step().loss for _ in range(STEPS)])
    return _compared(*found, limit=SAME["bf16"], names=("device", "cpu"))


def write_base(work: Work, folder: Path, device: Device) -> None:
    """Write a random model folder without a tokenizer, in bf16."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with device.torch:
        model = AutoModelForCausalLM.from_config(config_of(work.shape), dtype=torch.bfloat16)
    model.save_pretrained(str(folder))


def load_quantized(work: Work, folder: Path, device: Device) -> Any:
    """Load a folder with a 4-bit base, as a run does, and put adapters on it."""
    from instil.model.folder.location import ModelLocation
    from instil.model.loading import load_model
    from instil.recipe.model import ModelSettings

    location = ModelLocation(str(folder), "folder", folder)
    torch.manual_seed(0)
    model = load_model(
        ModelSettings(name=str(folder), quantize="4bit"),
        precision=work.precision,  # type: ignore[arg-type]
        device=device.torch,
        location=location,
        frozen=True,
    )
    return with_adapters(model, work, device.torch)


def memory(place: Place, *, shape: str, adapter: str, recompute: bool) -> Outcome:
    """Measure what a step takes at most, beside the estimate of `instil plan`."""
    work = tiny(Work(shape, adapter, tokens=8192, micro_batches=2, recompute=recompute), place.device)
    training = Training(work, build_model(work, place.device.torch), place.device, steps=2)
    place.device.forget_peak()
    for _ in range(2):
        training.step()
    measured, planned = place.device.peak_mb(), training.estimate.peak / 2**20
    return Outcome(
        {
            "planned_mb": round(planned),
            "measured_mb": None if measured is None else round(measured),
            "planned_over_measured": None if measured is None else round(planned / measured, 3),
        }
    )
