"""Connect to a Ray cluster, or start one on this machine; everything that instil sets in Ray is set here.

`RAY_ADDRESS` names a running cluster. Without it, Ray is started here and stopped at the end.

Why: Ray reports statistics unless it is told not to, and replaces the handler of SIGTERM. Both are undone here. What
cannot be turned off is in the documentation: its head process asks the cloud's metadata address where it runs, and its
processes listen on all interfaces.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from instil.environment.machine import usable_cores
from instil.errors import MissingPackageError, RecipeError, first_line_of

ADDRESS = "RAY_ADDRESS"
"""Variable with the address of a running cluster."""
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_NO_REPORTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The head of a cluster reports once that reports are off. Nothing listens on this port.
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
    # Ray Train asks the dashboard, which is not started here, and complains every few seconds.
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
}
_ON_THIS_MACHINE = {
    "RAY_AUTH_MODE": "token",
    # Ray's workers are otherwise at niceness 15: on a machine with other work they, and a run below them, stand still.
    "RAY_worker_niceness": "0",
}
_OBJECT_BYTES = 256 << 20
"""Memory of a cluster that is started here for what tasks are given: settings and rows, no results."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        ray: The module, connected.
        num_nodes: Number of its nodes.
        num_cpus: Tasks that it runs at once.
        address: Its address; empty for one that was started here.
    """

    ray: Any
    num_nodes: int
    num_cpus: int
    address: str

    def __str__(self) -> str:
        if not self.address:
            return f"Ray, started here with {self.num_cpus} processes; RAY_ADDRESS names a running cluster"
        return f"Ray at {self.address}: nodes {self.num_nodes}, processors {self.num_cpus}"


@contextlib.contextmanager
def connected(*, setting: str, processes: int = 0) -> Iterator[Cluster]:
    """Connect to a cluster while the context is open. A connection that this process has already is used and kept.

    Args:
        setting: The setting that needs it, for errors.
        processes: Processes of a cluster that is started here; 0 means one for each core.

    Raises:
        MissingPackageError: If Ray is not installed.
        RecipeError: If the cluster cannot be reached, or has no processor.
    """
    address = os.environ.get(ADDRESS, "")
    if address.startswith("ray://"):
        raise RecipeError(
            f"{setting}: {ADDRESS} is {address}, a client's address. Expected HOST:PORT of the cluster's head. "
            "Start instil on a node of the cluster, and set RAY_ADDRESS=auto."
        )
    with contextlib.ExitStack() as stack:
        own_token = {} if any(os.environ.get(name) for name in _TOKENS) else {_TOKENS[0]: _token()}
        local = {} if address else _ON_THIS_MACHINE | own_token
        stack.enter_context(_environment(_NO_REPORTS | local))
        ray = _imported(setting)
        if not ray.is_initialized():
            stack.callback(ray.shutdown)
            with _handlers_kept():
                _start(ray, address, processes or usable_cores(), setting)
        else:
            address = address or ray.get_runtime_context().gcs_address
        num_cpus = int(ray.cluster_resources().get("CPU", 0))
        num_nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        if not num_cpus:
            raise RecipeError(
                f"{setting}: the cluster at {address} has no processor. Expected at least one. Add a node."
            )
        yield Cluster(ray, num_nodes, num_cpus, address)


@cache
def _token() -> str:
    """Return a new token for the clusters that this process starts. Ray reads it once a process."""
    return secrets.token_hex(32)


def _imported(setting: str) -> Any:
    try:
        import ray
    except ImportError:
        raise MissingPackageError("ray", needed_for=setting, extra="ray") from None
    return ray


def _start(ray: Any, address: str, processes: int, setting: str) -> None:
    quiet = {"logging_level": "error", "log_to_driver": False, "configure_logging": False}
    try:
        if address and address != "local":
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=processes,
                include_dashboard=False,
                object_store_memory=_OBJECT_BYTES,
                **quiet,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise RecipeError(
            f"{setting}: cannot connect to Ray at {address or 'this machine'} ({first_line_of(error)}). Expected a "
            "running cluster with the same versions and token. Check RAY_ADDRESS and RAY_AUTH_TOKEN."
        ) from None


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set, while the context is open."""
    new = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put back the handlers of signals that Ray replaces when it starts; its own would skip what we do at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
