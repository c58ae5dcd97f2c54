"""Preparation on Ray: its speed beside worker processes, its memory, and its bytes after random kills.

    python benchmarks/cluster.py [--only prepare,kills] [--rows 50000] [--kills 20]

`prepare` runs `data.workers: 2` and Ray with two one-thread workers on the same rows, and compares their rates from the
first result to the last. The machines of a cluster are processes of this one.

`kills` starts two nodes, and ends something with signal 9 at a random moment of each preparation: a task, another worker
of Ray, the second node, or the process that was started. The last one is started again, and a new node joins. Every
finished store must have the bytes of a preparation without Ray.

The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from options import Inputs, add_data_option, add_model_options, as_rows, count, inputs_of, words_of
from prepare import with_other_numbers, write_rows

from instil.files import sha256_of

CASES = ("prepare", "kills")
KINDS = ("task", "worker", "node", "driver")
SIDES = Path(__file__).resolve().parent / "cluster_sides.py"
HOLDER = """
import sys
from ray.cluster_utils import Cluster
size = dict(num_cpus=1, object_store_memory=100 << 20)
cluster = Cluster(initialize_head=True, connect=False, head_node_args={**size, "include_dashboard": False})
second = cluster.add_node(**size)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    second = cluster.add_node(**size)
    print("replaced", flush=True)
cluster.shutdown()
"""
"""Holds two nodes. A line on its input kills the second one and starts another."""


def many_rows(inputs: Inputs, number: int) -> Iterator[dict[str, Any]]:
    """Yield rows; those of the inputs are repeated with other numbers, so that no row is a copy."""
    pairs = inputs.pairs(number)
    for n in range(number):
        question, answer = (with_other_numbers(text, 7 * (n // len(pairs))) for text in pairs[n % len(pairs)])
        yield from as_rows([(question, answer)])


def short_rows(number: int) -> Iterator[dict[str, Any]]:
    """Yield short sums: many of them cost little time, and as much of the driver's memory as long rows."""
    yield from as_rows((f"What is {n} + 1?", f"{n + 1}") for n in range(number))


def run_side(cluster: str, data: Path, tokenizer: str, folder: Path, rows: int) -> dict[str, Any]:
    """Run one side in a process of its own and return its figures."""
    store = folder / f"store-{secrets.token_hex(4)}"
    command = [sys.executable, str(SIDES), cluster, str(data), tokenizer, str(store), "2", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(store, ignore_errors=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{cluster}: {figures}", file=sys.stderr, flush=True)
    return figures


def prepare_case(data: Path, tokenizer: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Compare Ray with worker processes."""
    runs = [
        {side: run_side(side, data, tokenizer, folder, args.rows) for side in args.sides} for _ in range(args.repeats)
    ]
    case: dict[str, Any] = {"case": "prepare", "runs": runs}
    if len(args.sides) == 2:
        case["same_bytes"] = len({run[side]["bytes"] for run in runs for side in run}) == 1
        case["slower"] = round(statistics.median(run["none"]["steady"] / run["ray"]["steady"] for run in runs), 3)
        case["more_cpu"] = round(statistics.median(run["ray"]["cpu_s"] / run["none"]["cpu_s"] for run in runs), 3)
    return case


def ray_variables() -> dict[str, str]:
    """Return an environment for a cluster of its own: with a new token, and nothing reported."""
    return {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
    }


class Nodes:
    """Two nodes of a cluster, held by another process."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def replace(self) -> None:
        """Kill the second node, and let another one join."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("replace\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the processes of Ray that have a name."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = any(parent.pid == self.process.pid for parent in process.parents())
                if ours and process.cmdline()[:1] == [name]:
                    found.append(process)
        return found


def kill(kind: str, driver: subprocess.Popen[bytes], nodes: Nodes) -> bool:
    """Kill something, and return whether there was something to kill."""
    if kind == "driver":
        driver.send_signal(signal.SIGKILL)
        return True
    if kind == "node":
        nodes.replace()
        return True
    # Ray's agents are named so too, but a node ends with its agent, and the first node with it the driver.
    found = nodes.processes("ray::encode_to_shard" if kind == "task" else "ray::IDLE")
    if found:
        with contextlib.suppress(psutil.NoSuchProcess):
            random.choice(found).kill()
            return True
    return False


def digest_of(store: Path) -> str:
    """Return the digest of the one store in a folder."""
    (folder,) = (path for path in store.iterdir() if path.is_dir())
    lines = "".join(f"{path.name} {sha256_of(path)}\n" for path in sorted(folder.iterdir()))
    return hashlib.sha256(lines.encode()).hexdigest()


def kills_case(data: Path, tokenizer: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Kill at random moments until there were as many kills as requested."""
    expected = run_side("none", data, tokenizer, folder, args.kill_rows)["bytes"]
    variables = ray_variables()
    nodes = Nodes(variables)
    killed = dict.fromkeys(KINDS, 0)
    finished = different = nothing = 0
    kinds = iter(())
    try:
        while sum(killed.values()) < args.kills:
            store = folder / f"killed-{finished}"
            command = [sys.executable, str(SIDES), "ray", str(data), tokenizer, str(store), "2"]
            environment = {**variables, "RAY_ADDRESS": nodes.address}
            while True:
                driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                while not list(store.glob(".tmp-*-shards/0*.arrow")) and driver.poll() is None:
                    time.sleep(0.02)
                time.sleep(random.uniform(0, args.seconds))
                kind = next(kinds, None)
                if kind is None:
                    kinds = iter(random.sample(KINDS, len(KINDS)))
                    kind = next(kinds)
                if driver.poll() is None and sum(killed.values()) < args.kills and kill(kind, driver, nodes):
                    killed[kind] += 1
                else:
                    nothing += 1
                _, errors = driver.communicate()
                if driver.returncode == 0:
                    break
                if driver.returncode != -signal.SIGKILL:
                    raise SystemExit(f"{kind}: exit code {driver.returncode}\n{errors.decode()[-3000:]}")
            finished += 1
            different += digest_of(store) != expected
            print(f"killed {killed}, finished {finished}, different {different}", file=sys.stderr, flush=True)
            shutil.rmtree(store)
    finally:
        nodes.process.kill()
    return {
        "case": "kills", "killed": killed, "finished": finished, "different": different, "nothing_to_kill": nothing,
    }  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=words_of(*CASES), default="prepare,kills", help=", ".join(CASES))
    parser.add_argument("--rows", type=count, default=50_000, help="number of rows of `prepare`")
    parser.add_argument("--short", action="store_true", help="short sums as rows of `prepare`, for its memory")
    parser.add_argument("--sides", type=words_of("none", "ray"), default="none,ray", help="sides of `prepare`")
    parser.add_argument("--repeats", type=count, default=1, help="times that `prepare` measures each side")
    parser.add_argument("--kill-rows", type=count, default=20_000, help="number of rows of `kills`")
    parser.add_argument("--kills", type=count, default=20, help="number of kills")
    parser.add_argument("--seconds", type=float, default=4.0, help="latest moment of a kill after the first result")
    parser.add_argument("--seed", type=int, default=0)
    add_data_option(parser)
    add_model_options(parser, template=None, what="encodes the rows")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    random.seed(args.seed)
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inputs = inputs_of(args, folder)
        tokenizer = str(inputs.write_tokenizer(folder / "tokenizer"))
        if "prepare" in args.only:
            rows = short_rows(args.rows) if args.short else many_rows(inputs, args.rows)
            data = write_rows(folder / "rows.jsonl", rows)
            cases.append(prepare_case(data, tokenizer, folder, args))
        if "kills" in args.only:
            data = write_rows(folder / "kill-rows.jsonl", many_rows(inputs, args.kill_rows))
            cases.append(kills_case(data, tokenizer, folder, args))
    print(json.dumps({"cases": cases, "inputs": inputs.record()}))


if __name__ == "__main__":
    main()
