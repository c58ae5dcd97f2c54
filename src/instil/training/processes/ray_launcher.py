"""Launch the processes of a run by Ray Train, and wait for them: ``parallel.launcher: ray``.

Ray Train places the workers on the nodes, starts them again after a failure, and changes their number where the recipe
allows it. Each worker has the run as a child process (`ray_worker`); steps, checkpoints and signals are those of any
run.

Why: Ray Train's own checkpoints and reports are not used. A run that is started again finds its latest checkpoint by
itself, and what it learns does not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from instil.errors import RecipeError, TrainingError, first_line_of
from instil.files import ASIDE, make_folder, remove_empty
from instil.ray_cluster import Cluster, connected
from instil.recipe import ParallelSettings, Recipe
from instil.recipe.paths import relative_paths
from instil.screen import Screen
from instil.training.processes.launcher import Handed
from instil.training.processes.ray_worker import (
    Mailbox,
    Post,
    ProcessDiedError,
    find_interface,
    run_worker,
    save_before_resize,
)
from instil.training.processes.signals import FirstSignal, Stopped, StopRequest, handled

T = TypeVar("T")
SETTING = "parallel.launcher"
POLL_SECONDS = 0.2
"""Seconds between two looks at what the run wrote and printed."""
RESIZE_SECONDS = 60.0
"""Seconds after a start, and between two looks, until another number of processes is tried."""


def launch_on_ray(
    recipe: Recipe,
    *,
    resume: bool,
    quiet: bool = False,
    events: Callable[[], Iterable[T]] = tuple,
    stop: StopRequest | None = None,
) -> Generator[T, None, int | None]:
    """Have Ray Train start the processes of a run and wait for them to end; yield what they write meanwhile.

    Args:
        recipe: The recipe; its `parallel` says how many processes.
        resume: Whether to resume the run.
        quiet: Whether they print nothing.
        events: Returns what they have written since its last call.
        stop: Becomes true when the caller asks the run to stop.

    Returns:
        The signal that stopped the run on request, or None.

    Raises:
        TrainingError: With what a process reported, or which one died and how.
        Stopped: If a signal came before there was anything to save, or a second one.
        RecipeError: If the cluster cannot be reached, or has too few processors or GPUs.
    """
    say = Screen(quiet=quiet).say
    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(_storage(Path(recipe.output).absolute()))
        cluster = stack.enter_context(connected(setting=SETTING, processes=_num_processors(recipe)))
        say(f"{'cluster':<10} {cluster}")
        box = _mailbox(cluster)
        stops = _AskToStop(box)
        stack.enter_context(handled(stops))
        post = Post(
            handed=Handed(recipe, resume, quiet).to_json(),
            folder=os.getcwd(),
            relative=relative_paths(recipe),
            threads=os.environ.get("OMP_NUM_THREADS"),
            address=cluster.ray.get_runtime_context().gcs_address,
            mailbox=box,
        )
        fitting = _Fitting(_trainer(cluster, recipe, post, storage))
        while fitting.goes_on(POLL_SECONDS):
            for line in cluster.ray.get(box.take.remote()):
                say(line)
            yield from events()
            if stop and stops.first is None:
                stops(signal.SIGTERM, None)
        for line in cluster.ray.get(box.take.remote()):
            say(line)
        yield from events()
        if stops.first is not None and cluster.ray.get(box.was_stopped.remote()):
            raise Stopped(stops.first)
        cause = cluster.ray.get(box.cause.remote())
        if cause is not None:
            raise TrainingError(cause)
        if fitting.error is not None:
            raise TrainingError(_died(fitting.error, recipe.parallel)) from None
    return stops.first


def _num_processors(recipe: Recipe) -> int:
    """Return how many processors a run takes: one for each process, and one for preparing on the same cluster."""
    return recipe.parallel.processes + (recipe.data.cluster == "ray")


@contextlib.contextmanager
def _storage(output: Path) -> Iterator[Path]:
    """Make the folder that Ray Train wants on a shared disk, beside the run folder; it is removed at the end."""
    made = make_folder(output.parent)
    storage = output.with_name(f"{ASIDE}ray-{secrets.token_hex(6)}")
    try:
        yield storage
    finally:
        shutil.rmtree(storage, ignore_errors=True)
        remove_empty(made)


def _mailbox(cluster: Cluster) -> Any:
    """Start the actor on this node: it is needed as long as this process is."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(cluster.ray.get_runtime_context().get_node_id(), soft=False)
    return cluster.ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()


class _AskToStop(FirstSignal):
    """Asks the processes to stop, by the mailbox, at the first signal."""

    def __init__(self, box: Any) -> None:
        super().__init__()
        self._box = box

    def pass_on(self, number: int) -> None:
        """Leave it in the mailbox, where the workers look for it."""
        self._box.ask_to_stop.remote(number)


class _Fitting:
    """The call of Ray Train that returns when the run has ended, in a thread.

    Attributes:
        error: What it raised, or None.
    """

    def __init__(self, trainer: Any) -> None:
        self.error: Exception | None = None
        self._trainer = trainer
        # A thread that nothing waits for: after a second signal the cluster is left at once.
        self._thread = threading.Thread(target=self._fit, name="instil-ray", daemon=True)
        self._thread.start()

    def goes_on(self, seconds: float) -> bool:
        """Wait, and return whether the run goes on."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # reported by the thread that waits
            self.error = error


def _trainer(cluster: Cluster, recipe: Recipe, post: Post, storage: Path) -> Any:
    """Return Ray Train's trainer for a run."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig

    class OfRun(TorchConfig().backend_cls):  # type: ignore[misc]
        """Ray's setup of torch, with what a run needs before its workers start and before they end."""

        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(find_interface)
            super().on_start(worker_group, backend_config)

        def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
            save_before_resize(worker_group, post.mailbox)
            super().on_shutdown(worker_group, backend_config)

    class Setup(TorchConfig):  # type: ignore[misc]
        """Ray's settings of torch, with that setup."""

        @property
        def backend_cls(self) -> Any:
            return OfRun

    parallel = recipe.parallel
    use_gpu = _use_gpu(cluster, recipe)
    fewest = parallel.fewest_processes
    return TorchTrainer(
        run_worker,
        train_loop_config=post,
        torch_config=Setup(backend="gloo"),  # it only holds the addresses; the run's processes make their own group
        scaling_config=ScalingConfig(
            num_workers=parallel.processes if fewest is None else (fewest, parallel.processes),
            use_gpu=use_gpu,
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=RunConfig(
            name="run",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=parallel.restarts),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _use_gpu(cluster: Cluster, recipe: Recipe) -> bool:
    """Return whether each process gets a GPU, and refuse a cluster that can never hold the processes.

    Raises:
        RecipeError: If there are too few processors or GPUs.
    """
    resources = cluster.ray.cluster_resources()
    num_gpus = int(resources.get("GPU", 0))
    use_gpu = recipe.device.startswith("cuda") or (recipe.device == "auto" and num_gpus > 0)
    there, what = (num_gpus, "GPUs") if use_gpu else (cluster.num_cpus, "processors")
    fewest = recipe.parallel.fewest_processes or recipe.parallel.processes
    if there < fewest:
        raise RecipeError(
            f"parallel.processes: {fewest}, but the cluster has {there} {what}. Expected one for each process. "
            "Set fewer processes, or add nodes."
        )
    if recipe.data.cluster == "ray" and cluster.num_cpus < _num_processors(recipe):
        raise RecipeError(
            f"data.cluster: ray, but the processes of the run take all {cluster.num_cpus} processors of the cluster. "
            "Expected a free one. Prepare with `instil prepare` before, and train with data.cluster: none."
        )
    return use_gpu


def _died(error: Exception, parallel: ParallelSettings) -> str:
    """Return why Ray Train gave up, as one line."""
    # Ray wraps our error in its own, whose text has a traceback and ends with our line.
    texts = [str(failure).strip() for failure in (getattr(error, "worker_failures", None) or {}).values()]
    lines = [text.splitlines()[-1].rpartition(f"{ProcessDiedError.__name__}: ")[2] for text in texts if text]
    cause = next((line for line in lines if "was killed" in line), lines[0] if lines else first_line_of(error))
    return (
        f"{cause}, and parallel.restarts is {parallel.restarts}. Checkpoints that were written are intact. "
        "Continue with --resume."
    )
