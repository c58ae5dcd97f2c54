"""Check and measure training on one NVIDIA GPU, cell by cell: first whether it is right, then how fast it is.

    python benchmarks/gpu.py --list                                  the cells, what each needs, and its longest time
    python benchmarks/gpu.py --out gpu.jsonl                         every cell, in this order
    python benchmarks/gpu.py --out gpu.jsonl --resume --minutes 9    those that gpu.jsonl lacks, while they fit into 9 minutes
    python benchmarks/gpu.py --out gpu.jsonl --cell masks            one cell, again if need be
    python benchmarks/gpu.py --out gpu.jsonl --table                 Markdown rows for RESULTS.md, of what was measured
    python benchmarks/gpu.py --out rehearsal.jsonl --rehearse        every cell on a faked device, without a GPU

Takes no data: ids and weights are random, or the demo's. Each cell runs in a process of its own for at most four minutes. Its result is
appended to the file as soon as it ends. A cell that fails is recorded with its traceback, and the next one begins. A cell whose package,
compiler or GPU is missing is skipped by name.

Correctness comes first: attention, masks, losses beside the CPU's on the same rows, cuts, bits after a resume, answers.
Then the memory that was planned beside what was taken, speed beside TRL, NCCL with one rank, and a 4-bit base.

Speed: rows have the lengths of chats: log-normal, median 400 tokens, at most 4,096; 40% of a row is trained. A step has four micro-batches of
8k tokens. The first three steps are not counted.

A rehearsal takes tiny shapes, the device of tests/stand_in (or the CPU, for libraries that know no other), and seconds
from a cost model. Its figures say nothing about a GPU.

TRL runs in this environment, or with the wheels of a folder before it (`--wheels`; for a machine without a network), or in an
environment of its own (`--trl-python`; peers.py builds one). To fetch wheels: `pip download --no-deps trl==1.16.0 -d wheels`.
The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 240
"""Seconds that a cell may take."""
REHEARSED = 10
"""How many times as long a rehearsal may take: the clock of a busy CPU is not what it is about."""
SHAPES_MEASURED = (
    ("llama-3.2-1b", "full"),
    ("llama-3.2-1b", "lora"),
    ("qwen3-4b", "full"),
    ("qwen3-4b", "lora"),
    ("llama-3.1-8b", "lora"),
)


@dataclass(frozen=True)
class Cell:
    """One thing to find out.

    Attributes:
        name: Its name in results and on the command line.
        run: The function of `gpu_correctness` or `gpu_speed`, by name, with its arguments.
        needs: What the machine must have, as keys of `MISSING`.
        seconds: Its longest time.
        faked_on: What a rehearsal computes on.
    """

    name: str
    run: tuple[str, dict[str, Any]]
    needs: tuple[str, ...] = ()
    seconds: int = LONGEST
    faked_on: str = "standin"

    @property
    def is_trl(self) -> bool:
        """Whether it runs in TRL's environment."""
        return "trl" in self.needs


def cells() -> list[Cell]:
    """Return all cells, in the order in which they run."""
    right = [
        Cell("machine", ("machine", {}), seconds=90),
        Cell("attention", ("attention", {}), seconds=120),
        Cell("masks", ("masks", {}), seconds=120),
        *(
            Cell(
                f"losses:{shape}:{adapter}:{precision}",
                ("losses_beside_cpu", {"shape": f"tiny-{shape}", "adapter": adapter, "precision": precision}),
                seconds=120,
            )
            for shape in ("llama-3.2-1b", "qwen3-4b")
            for adapter in ("full", "lora")
            for precision in ("fp32", "bf16")
        ),
        *(
            Cell(
                f"losses:{optimizer}",
                (
                    "losses_beside_cpu",
                    {"shape": "tiny-smollm2-135m", "adapter": "full", "precision": "bf16", "optimizer": optimizer},
                ),
                needs=("bitsandbytes",) if optimizer == "adamw_8bit" else (),
                seconds=120,
            )
            for optimizer in ("adamw_8bit", "muon", "adafactor")
        ),
        Cell("cut", ("cut", {}), seconds=120),
        Cell("resume:full", ("resume", {"adapter": "full"}), seconds=200),
        Cell("resume:lora", ("resume", {"adapter": "lora"}), seconds=200),
        Cell("answers", ("answers", {}), seconds=150),
        Cell("compiled", ("compiled", {}), needs=("compiler", "real"), seconds=200),
    ]
    planned = [
        Cell(
            f"memory:{shape}:{adapter}" + (":recomputed" if recompute else ""),
            ("memory", {"shape": shape, "adapter": adapter, "recompute": recompute}),
            seconds=150,
        )
        for shape, adapter, recompute in (
            ("smollm2-135m", "full", False),
            ("llama-3.2-1b", "full", False),
            ("llama-3.2-1b", "full", True),
            ("llama-3.2-1b", "lora", False),
            ("llama-3.1-8b", "lora", True),
        )
    ]
    # The two sides of a shape stand together; what only explains comes last.
    beside, eager = [], []
    for shape, adapter in SHAPES_MEASURED:
        name, work = f"speed:{shape}:{adapter}", {"shape": shape, "adapter": adapter}
        beside.append(Cell(f"{name}:ours", ("ours", {**work, "compiled": True}), needs=("compiler",)))
        beside.append(Cell(f"{name}:trl", ("trl", work), needs=("trl",), faked_on="cpu"))
        eager.append(Cell(f"{name}:ours-eager", ("ours", {**work, "compiled": False})))
    return [
        *right,
        *planned,
        *beside,
        Cell("nccl", ("nccl", {}), needs=("nccl",), seconds=150, faked_on="cpu"),
        Cell("losses:qlora", ("qlora", {}), needs=("bitsandbytes",), seconds=150),
        Cell("speed:llama-3.2-1b:qlora:ours", ("quantized", {"shape": "llama-3.2-1b"}), needs=("bitsandbytes",)),
        *eager,
    ]


def _no_package(name: str) -> Callable[[argparse.Namespace], str | None]:
    def missing(args: argparse.Namespace) -> str | None:
        return None if importlib.util.find_spec(name) else f"the package {name}"

    return missing


def _no_trl(args: argparse.Namespace) -> str | None:
    in_wheels = args.wheels is not None and any(args.wheels.glob("trl-*.whl"))
    if args.trl_python or in_wheels or importlib.util.find_spec("trl"):
        return None
    return "TRL (--wheels, --trl-python)"


def _no_compiler(args: argparse.Namespace) -> str | None:
    if args.rehearse or (any(map(shutil.which, ("c++", "g++", "clang++"))) and importlib.util.find_spec("triton")):
        return None
    return "a C++ compiler and triton"


def _no_nccl(args: argparse.Namespace) -> str | None:
    import torch.distributed as dist

    return None if dist.is_available() and (args.rehearse or dist.is_nccl_available()) else "torch with NCCL"


MISSING: dict[str, Callable[[argparse.Namespace], str | None]] = {
    "trl": _no_trl,
    "bitsandbytes": _no_package("bitsandbytes"),
    "compiler": _no_compiler,
    "nccl": _no_nccl,
    "real": lambda args: "a GPU: the stand-in has no compiled code" if args.rehearse else None,
}
"""What a cell may need → what is missing of it, in words, or None."""


def missing_of(cell: Cell, args: argparse.Namespace) -> str | None:
    """Return what the machine lacks for a cell, in words, or None."""
    return next((words for need in cell.needs if (words := MISSING[need](args)) is not None), None)


def run_here(cell: Cell, *, rehearse: bool) -> dict[str, Any]:
    """Run a cell in this process; return its line without the name."""
    from gpu_device import open_device

    started = time.perf_counter()
    try:
        device = open_device(cell.faked_on if rehearse else "cuda")  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory(prefix="instil-gpu-") as scratch:
            found = _found(cell, device, Path(scratch))
    except BaseException as error:
        found = {
            "status": "failed",
            "error": f"{type(error).__name__}: {error}"[:600],
            "traceback": traceback.format_exc(),
        }
    return {**found, "seconds": round(time.perf_counter() - started, 1), "rehearsal": rehearse}


def _found(cell: Cell, device: Any, scratch: Path) -> dict[str, Any]:
    import gpu_speed

    name, settings = cell.run
    if name == "trl":
        return {"status": "done", "figures": gpu_speed.trl(device, **settings, out=scratch / "out")}
    if name == "ours":
        return {"status": "done", "figures": gpu_speed.ours(device, **settings)}
    if name == "quantized":
        return {"status": "done", "figures": gpu_speed.quantized(device, **settings, folder=scratch / "model")}
    import gpu_correctness

    outcome = getattr(gpu_correctness, name)(gpu_correctness.Place(device, scratch), **settings)
    status = "done" if outcome.wrong is None else "wrong"
    return {"status": status, "figures": outcome.figures} | ({"wrong": outcome.wrong} if outcome.wrong else {})


def in_a_process(cell: Cell, args: argparse.Namespace, *, site: Path | None) -> dict[str, Any]:
    """Run a cell in a new process, and end it at its limit."""
    python = args.trl_python if cell.is_trl and args.trl_python else sys.executable
    environment = dict(os.environ)
    # A Python of its own must not find our packages; unpacked wheels must come before them.
    if cell.is_trl and args.trl_python:
        environment.pop("PYTHONPATH", None)
    if cell.is_trl and site is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), environment.get("PYTHONPATH"))))
    words = [python, __file__, "--inside", cell.name, *(["--rehearse"] if args.rehearse else [])]
    started = time.perf_counter()
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as child:
        try:
            out, err = child.communicate(timeout=cell.seconds * (REHEARSED if args.rehearse else 1))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            return _ended(cell, started, f"took longer than {cell.seconds} seconds", err)
    lines = out.strip().splitlines()
    if child.returncode or not lines or not lines[-1].startswith("{"):
        return _ended(cell, started, f"ended with {child.returncode}", err)
    return dict(json.loads(lines[-1]))


def in_a_fork(cell: Cell) -> dict[str, Any]:
    """Run a cell of a rehearsal in a fork, which has imported everything already."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="instil-gpu-fork-") as folder:
        path, log = Path(folder) / "line.json", Path(folder) / "log"
        child = os.fork()
        if child == 0:
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                import torch

                # After a fork torch makes a new pool of threads at its first use, which must not be by two threads.
                torch.set_num_threads(1)
                path.write_text(json.dumps(run_here(cell, rehearse=True)))
                os._exit(0)
        end = time.monotonic() + REHEARSED * cell.seconds
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return _ended(cell, started, f"took longer than {REHEARSED * cell.seconds} seconds", log.read_text())
            time.sleep(0.02)
        if not path.exists():
            return _ended(cell, started, "ended without a result", log.read_text())
        return dict(json.loads(path.read_text()))


def _ended(cell: Cell, started: float, reason: str, output: str) -> dict[str, Any]:
    return {
        "status": "failed",
        "error": reason,
        "traceback": output.strip()[-4000:],
        "seconds": round(time.perf_counter() - started, 1),
    }


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Return the latest line of each cell; a last line that was cut off is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[record["cell"]] = record
    return found


def chosen(args: argparse.Namespace, results: dict[str, dict[str, Any]]) -> Iterator[Cell]:
    """Yield the cells to run: the named ones, or all that have no result yet."""
    for cell in cells():
        if args.cell:
            if cell.name in args.cell:
                yield cell
        elif results.get(cell.name, {}).get("status", "skipped") == "skipped":
            yield cell


def run_all(args: argparse.Namespace, results: dict[str, dict[str, Any]], site: Path | None) -> None:
    """Run the chosen cells one after another, and append each result as soon as it is there."""
    end = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    if args.rehearse:
        import gpu_correctness  # noqa: F401
        import gpu_speed  # noqa: F401

        from instil.model.quantization import import_bitsandbytes

        import_bitsandbytes()
        import peft  # noqa: F401
        import torch._subclasses.fake_tensor  # noqa: F401
        import transformers.models.llama.modeling_llama  # noqa: F401

        import instil.training.run  # noqa: F401
    for cell in chosen(args, results):
        lacking = missing_of(cell, args)
        if lacking is not None:
            line: dict[str, Any] = {"status": "skipped", "error": f"needs {lacking}"}
        elif end is not None and time.monotonic() + cell.seconds > end:
            print(f"{cell.name}: may take {cell.seconds} s, and --minutes leaves fewer. Call again with --resume.")
            continue
        elif args.rehearse and not cell.is_trl:
            line = in_a_fork(cell)
        else:
            line = in_a_process(cell, args, site=site)
        line = {"cell": cell.name, **line}
        results[cell.name] = line
        with args.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(words_of_result(line), flush=True)


def words_of_result(line: dict[str, Any]) -> str:
    """Return a result as one line for people."""
    figures = line.get("figures", {})
    said = line.get("wrong") or line.get("error") or ""
    if not said and "tokens_per_second" in figures:
        said = f"{figures['tokens_per_second']:,.0f} tokens/s"
    if not said and "difference" in figures:
        said = f"differs by {figures['difference']:.1e}"
    if not said and figures.get("planned_over_measured"):
        said = f"planned {figures['planned_over_measured']} times what was measured"
    return f"{line['status']:8s} {line['cell']:36s} {said[:160]}".rstrip()


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return Markdown rows: what is right, what was planned, and our speed beside TRL's.

    Example:
        >>> table({"masks": {"cell": "masks", "status": "done", "figures": {}}})[2]
        '| masks | done | |'
    """
    rows = ["| cell | result | figures |", "|---|---|---|"]
    for name, line in results.items():
        figures, status = line.get("figures", {}), line["status"]
        if name.startswith("speed:"):
            continue
        if "difference" in figures:
            said = f"losses differ by {figures['difference']:.1e} (at most {figures['limit']:.0e})"
        elif "planned_mb" in figures:
            said = f"planned {figures['planned_mb']:,} MB, measured {figures['measured_mb'] or 'nothing'}"
        else:
            said = str(line.get("wrong") or line.get("error") or "")[:120].replace("|", "/")
        rows.append(f"| {name} | {status} | {said} |".replace("|  |", "| |"))
    rows += ["", "| work | precision | ours | TRL | ratio | our peak MB | their peak MB | share of matmul |"]
    rows += ["|---|---|---|---|---|---|---|---|"]
    for case in cases_of(results):
        shown = [case["ours"], case["theirs"], case["ratio"], case["peak_mb"], case["their_peak_mb"]]
        figures_shown = [f"{one:,.2f}" if one and one < 100 else f"{one:,.0f}" if one else "" for one in shown]
        rows.append(f"| {case['work']} | bf16 | {' | '.join(figures_shown)} | {case['share_of_matmul'] or ''} |")
    if any(line.get("rehearsal") for line in results.values()):
        rows += ["", "A rehearsal: the seconds are a model's, and no figure is one of a GPU."]
    return rows


def cases_of(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return both sides of each shape together; a figure that was not measured is None."""
    works = dict.fromkeys(name.rpartition(":")[0] for name in results if name.startswith("speed:"))
    found = []
    for work in works:
        ours, eager, theirs = (
            results.get(f"{work}:{side}", {}).get("figures", {}) for side in ("ours", "ours-eager", "trl")
        )
        mine, peer = ours.get("tokens_per_second"), theirs.get("tokens_per_second")
        found.append(
            {
                "work": work.removeprefix("speed:"),
                "precision": "bf16",
                "peer": "trl",
                "ours": mine,
                "eager": eager.get("tokens_per_second"),
                "theirs": peer,
                "ratio": round(mine / peer, 2) if mine and peer else None,
                "peak_mb": ours.get("peak_mb"),
                "their_peak_mb": theirs.get("peak_mb"),
                "share_of_matmul": ours.get("share_of_matmul"),
            }
        )
    return found


def unpacked(wheels: Path, folder: Path) -> Path:
    """Unpack the wheels of a folder into one that Python can import from.

    Raises:
        SystemExit: If there is none.
    """
    files = sorted(wheels.glob("*.whl"))
    if not files:
        raise SystemExit(f"--wheels {wheels}: no wheel. Expected .whl files. See --help for how to fetch them.")
    for file in files:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
    return folder


def cell_named(word: str) -> str:
    """Return the name of a cell: the type of an option."""
    names = [cell.name for cell in cells()]
    if word not in names:
        raise argparse.ArgumentTypeError(f"{word!r} is unknown. Expected one of --list, such as {names[1]}.")
    return word


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="file of results, a JSON object a line")
    parser.add_argument("--resume", action="store_true", help="run what the file lacks, or what was skipped")
    parser.add_argument("--cell", action="append", type=cell_named, metavar="NAME", help="run this cell; repeatable")
    parser.add_argument("--list", action="store_true", help="list the cells and run none")
    parser.add_argument("--table", action="store_true", help="print the file as Markdown and run none")
    parser.add_argument("--minutes", type=float, help="begin no cell that may end later; default: no limit")
    parser.add_argument("--rehearse", action="store_true", help="run every cell on a faked device")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheels of TRL and of what it needs here")
    parser.add_argument("--trl-python", help="Python of an environment with TRL, for its side")
    parser.add_argument("--inside", type=cell_named, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Run cells, or show them."""
    args = build_parser().parse_args()
    if args.inside:
        cell = next(cell for cell in cells() if cell.name == args.inside)
        print(json.dumps(run_here(cell, rehearse=args.rehearse)))
        return
    if args.list:
        for cell in cells():
            lacking = missing_of(cell, args)
            print(f"{cell.name:36s} {cell.seconds:4d} s  {f'needs {lacking}' if lacking else ''}".rstrip())
        return
    results = read_results(args.out)
    if args.table:
        print("\n".join(table(results)))
        return
    if results and not (args.resume or args.cell):
        raise SystemExit(f"{args.out}: has results. Expected a new file. Add --resume, or name another with --out.")
    if not args.rehearse:
        check_gpu()
    with tempfile.TemporaryDirectory(prefix="instil-gpu-wheels-") as folder:
        run_all(args, results, unpacked(args.wheels, Path(folder)) if args.wheels else None)
    print("\n".join(table(results)))
    print(json.dumps({"cases": cases_of(results), "cells": {name: line["status"] for name, line in results.items()}}))


def check_gpu() -> None:
    """Check that there is a GPU, before a cell is recorded as failed.

    Raises:
        SystemExit: With one line that says what to do.
    """
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch finds no NVIDIA GPU here. Expected one. Try it without one with --rehearse.")


if __name__ == "__main__":
    main()
