"""A job of a real Slurm on this machine, from the file that ships: it saves, goes back into the queue, and continues."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.training.command_line import assert_equal_runs, free_ports, train, write_recipe

from instil.recipe.shipped import launch_files
from instil.training.records.run_folder import Run

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
MISSING = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
pytestmark = [
    pytest.mark.exhaustive,  # minutes: daemons, and libraries that are loaded anew in each job
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}. Install with: apt install slurm-wlm munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd runs as root"),
]

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={port}
SlurmdPort={other_port}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} CPUs={cores} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP
"""


@dataclass
class Slurm:
    """A cluster of this machine alone."""

    folder: Path
    environment: dict[str, str]

    def run(self, *words: str) -> str:
        """Run one of Slurm's programs; fail if it fails."""
        done = subprocess.run(words, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def state(self, job: str) -> dict[str, str]:
        """Return what the controller knows of a job."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job)
        return dict(part.split("=", 1) for part in shown.split() if "=" in part)


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    port, other_port = free_ports(2)
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(host=host, folder=folder, port=port, other_port=other_port, cores=os.cpu_count())
    (folder / "slurm.conf").write_text(text)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    files = {name: str(folder / f"munge.{name}") for name in ("socket", "log", "pid", "seed")}
    munged = [
        "munged", "--force", "--foreground", "--key-file", str(key), "--socket", files["socket"],
        "--log-file", files["log"], "--pid-file", files["pid"], "--seed-file", files["seed"],
    ]  # fmt: skip
    running = []
    try:
        for words in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (folder / f"{words[0]}.out").open("w") as out:
                running.append(subprocess.Popen(words, env=environment, stdout=out, stderr=out, cwd=folder))
            time.sleep(0.5)
        cluster = Slurm(folder, environment)
        wait_until(lambda: "idle" in cluster.run("sinfo", "--noheader", "--format=%t"), seconds=60)
        yield cluster
    finally:
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            process.wait(timeout=30)


def wait_until(holds: Callable[[], bool], *, seconds: float) -> None:
    """Wait until a function returns true; one that cannot answer yet counts as false."""
    end = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except (AssertionError, FileNotFoundError):
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.3)


def test_a_job_that_runs_out_of_time_continues_and_equals_one_run(
    tmp_path: Path, base: Path, rows: Path, slurm: Slurm
) -> None:
    steps = {
        "training": {"max_steps": 300},
        "optimizer": {"lr": 1e-5},  # at a high rate the rounding of two processes grows over so many steps
        "evaluate": {"every": 300, "max_new_tokens": 1},
        "checkpoint": {"every": 1000},
    }
    alone = train(write_recipe(tmp_path / "alone", steps, base=base, rows=rows))
    own = {"data": {"store": str(tmp_path / "store")}, "output": str(tmp_path / "run")}
    recipe = write_recipe(tmp_path, steps, own, base=base, rows=rows)
    script = launch_files()["launch/slurm"]
    slurm.environment |= {"PYTHON": sys.executable, "PROCESSES": "2", "OMP_NUM_THREADS": "1"}
    said = slurm.run(
        "sbatch", "--parsable", "--nodes=1", "--gpus-per-node=0", "--cpus-per-task=1", str(script), str(recipe)
    )
    job = said.strip().partition(";")[0]
    log = slurm.folder / f"slurm-{job}.log"
    try:
        wait_until(lambda: "\nstep " in log.read_text(), seconds=300)
        # What Slurm does a few minutes before the time of the job is over.
        slurm.run("scancel", "--batch", "--signal=USR1", job)
        wait_until(lambda: slurm.state(job)["Restarts"] == "1", seconds=120)
        assert "SIGTERM: finishing this step and saving" in log.read_text()
        assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] != []
        assert not Run.open(tmp_path / "run").finished
        slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # a job that goes back waits two minutes
        wait_until(lambda: slurm.state(job)["JobState"] in ("COMPLETED", "FAILED"), seconds=420)
    except BaseException:
        print(log.read_text()[-4000:] if log.exists() else (slurm.folder / "slurmctld.log").read_text()[-2000:])
        raise
    assert slurm.state(job)["JobState"] == "COMPLETED", log.read_text()[-3000:]
    assert slurm.state(job)["Restarts"] == "1"
    assert_equal_runs(Run.open(tmp_path / "run"), alone)
