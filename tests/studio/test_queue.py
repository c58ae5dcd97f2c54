"""Claims about the queue, with real processes: one at a time, each once, whoever is killed in between."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading

import psutil
import pytest
from tests.studio.served import wait_until
from tests.training.command_line import make_base, make_rows, write_recipe

from instil.cli.main import parser_of
from instil.errors import ServeError
from instil.studio.jobs.folder import JobFolder
from instil.studio.jobs.processes import Process, birth_of, this_process
from instil.studio.jobs.queue import Queue
from instil.studio.jobs.records import VERBS, check_argv
from instil.studio.workspace import OWN, open_workspace

HELP = ["convert", "--help"]
FAILS = ["convert", "nowhere.jsonl", "out.jsonl"]


@pytest.fixture
def root(workspace):
    """A workspace; what a test leaves running is killed."""
    root = open_workspace(workspace)
    yield root
    for job in Queue(root).jobs():
        process = Queue(root).folder(job.number).process
        if job.state == "running" and process is not None and process.is_alive:
            os.kill(process.pid, signal.SIGKILL)


def lasting(root, name="pipe"):
    """Return a command that runs until it is stopped: it reads a pipe into which nobody writes."""
    if not (root / f"{name}.jsonl").exists():
        os.mkfifo(root / f"{name}.jsonl")
    return ["convert", f"{name}.jsonl", f"{name}-out.jsonl"]


def ended(queue, number):
    def job():
        queue.tick()
        found = queue.job(number)
        return found if found.state in ("done", "failed", "stopped") else None

    return wait_until(job)


def runs(queue, number):
    def process():
        queue.tick()
        return queue.folder(number).process

    return wait_until(process)


@pytest.mark.slow
def test_a_job_ends_with_its_exit_code_its_log_and_its_times(root):
    queue = Queue(root)
    good, bad = queue.add(HELP), queue.add(FAILS, title="a title", run="runs/a")
    assert [job.state for job in queue.jobs()] == ["queued", "queued"]
    job = ended(queue, good)
    assert (job.state, job.exit_code, job.argv, job.command) == ("done", 0, tuple(HELP), "instil convert --help")
    assert "Rewrite conversations" in queue.folder(good).log.read_text()
    assert job.created <= job.started <= job.ended
    job = ended(queue, bad)
    assert (job.state, job.exit_code, job.title, job.run) == ("failed", 2, "a title", "runs/a")
    assert "nowhere.jsonl: no such file" in queue.folder(bad).log.read_text()


@pytest.mark.slow
def test_one_job_at_a_time_has_the_device_and_others_run_beside_it(root):
    queue = Queue(root)
    first, second = queue.add(lasting(root)), queue.add(HELP)
    beside = queue.add(HELP, lane="beside")
    runs(queue, first)
    assert ended(queue, beside).state == "done"
    assert [queue.job(number).state for number in (first, second)] == ["running", "queued"]
    assert queue.stop(first)
    assert ended(queue, first).state == "stopped"
    assert ended(queue, second).state == "done"


COUNTS_SIGNALS = """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_each_level_of_stop_is_sent_once_and_in_order(root):
    queue = Queue(root)
    number = queue.add(lasting(root))
    assert not queue.stop(number)
    assert queue._take() == number
    with subprocess.Popen([sys.executable, "-c", COUNTS_SIGNALS], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        queue.folder(number).write_process(this_process(child.pid))
        assert not queue.stop(number, level=2)
        assert queue.stop(number)
        assert child.stdout.readline() == "asked\n"
        assert not queue.stop(number)
        assert queue.stop(number, level=2)
        assert child.stdout.readline() == "asked\n"
        assert queue.job(number).stops == 2
        assert queue.stop(number, level=3)
        assert child.wait() == -signal.SIGKILL
        assert child.stdout.read() == ""
    assert not queue.stop(number, level=4)


def test_a_stop_reaches_a_command_that_is_just_being_started(root):
    queue = Queue(root)
    number = queue.add(lasting(root))
    assert queue._take() == number  # as `tick` does before it starts the runner
    starting = threading.Timer(0.3, queue._start, [number])
    starting.start()
    assert queue.stop(number)
    starting.join()
    assert ended(queue, number).state == "stopped"


def test_a_command_that_somebody_kills_has_failed_with_that_signal(root):
    queue = Queue(root)
    number = queue.add(lasting(root))
    os.kill(runs(queue, number).pid, signal.SIGKILL)
    job = ended(queue, number)
    assert (job.state, job.exit_code) == ("failed", -signal.SIGKILL)


def test_a_job_whose_runner_is_killed_too_is_not_taken_for_running(root):
    queue = Queue(root)
    number = queue.add(lasting(root))
    process = runs(queue, number)
    os.kill(queue.folder(number).runner.pid, signal.SIGKILL)
    wait_until(lambda: not queue.folder(number).runner.is_alive or queue.tick())
    queue.tick()
    assert queue.job(number).state == "running"  # the command itself lives
    os.kill(process.pid, signal.SIGKILL)
    job = ended(queue, number)
    assert (job.state, job.exit_code) == ("failed", None)


def test_a_queued_job_can_be_cancelled_and_an_ended_one_removed(root):
    queue = Queue(root)
    number = queue.add(HELP)
    assert not queue.remove(number)
    assert queue.cancel(number)
    assert not queue.cancel(number)
    queue.tick()
    assert queue.job(number).state == "stopped"
    assert queue.folder(number).runner is None
    assert queue.remove(number)
    assert queue.job(number) is None
    assert not queue.folder(number).path.exists()
    assert queue.add(HELP) > number  # its number is never used again


@pytest.mark.slow
def test_two_studios_start_a_job_once(root):
    numbers = [Queue(root).add(HELP, lane="beside") for _ in range(3)]
    queues = [Queue(root) for _ in range(6)]
    threads = [threading.Thread(target=queue.tick) for queue in queues]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for number in numbers:
        assert ended(queues[0], number).state == "done"
        assert queues[0].folder(number).log.read_text().count("Rewrite conversations") == 1


@pytest.mark.slow
def test_a_job_that_two_runners_were_started_for_runs_once(root):
    queue = Queue(root)
    number = queue.add(HELP)
    folder = queue.folder(number)
    command = [sys.executable, "-m", "instil.studio.jobs.runner", str(folder.path)]
    runners = [subprocess.Popen(command) for _ in range(3)]
    assert [runner.wait() for runner in runners] == [0, 0, 0]
    wait_until(lambda: folder.status)
    assert folder.log.read_text().count("Rewrite conversations") == 1
    assert folder.status[0] == 0
    assert [path.name for path in folder.path.glob("claim*")] == ["claim.json"]


@pytest.mark.slow
def test_a_job_that_was_taken_by_a_studio_killed_before_it_started_is_started_by_the_next(root):
    queue = Queue(root)
    number = queue.add(HELP)
    dead = subprocess.Popen(["true"])
    dead.wait()
    with sqlite3.connect(root / OWN / "jobs.db") as database:
        database.execute(
            "UPDATE jobs SET state = 'running', started = 0, starter_pid = ?, starter_birth = 'gone' WHERE number = ?",
            (dead.pid, number),
        )
    database.close()
    assert ended(queue, number).state == "done"


def test_a_process_is_told_from_a_later_one_with_its_id():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = this_process(child.pid)
    assert process.is_alive
    assert not Process(child.pid, birth_of(os.getpid())).is_alive
    child.stdin.close()
    wait_until(lambda: not process.is_alive)  # it has ended, and nobody has waited for it: a zombie
    child.wait()
    assert not process.is_alive
    assert birth_of(child.pid) == ""


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["serve", "demo", "--host=0.0.0.0"],
        ["serve", "demo", "--key", "secret"],
        ["studio"],
        ["train", "r.yaml", "--model.trust-remote-code"],
        ["train", "r.yaml", "--model.trust_remote_code=true"],
        ["export", "run", "out", "--push", "owner/name"],
        ["evaluate", "run", "--host", "0.0.0.0"],
        ["evaluate", "run", "--judge=https://api.example.com/v1"],
        ["train", "r.yaml", "--tracking.to=wandb"],
        ["prepare", "r.yaml", "--data.cluster=ray"],
        ["train", "r.yaml", "--tracking.project=mine"],
        ["export", "run", "out", "--public"],
        ["train", "a\0b"],
    ],
)
def test_what_a_page_may_not_start_is_refused(root, argv):
    with pytest.raises(ServeError):
        Queue(root).add(argv)
    assert Queue(root).jobs() == []


REACHING = re.compile(
    r"wandb|trackio|tracker|telemetry|push|upload|publish|public|remote|\bcode\b|https?|\burl\b|host|address|secret|"
    r"password|credential|\bkey\b|account|webhook|e-?mail|harness|server",
    re.IGNORECASE,
)
"""What the name or the help of an option has that runs foreign code, or sends data elsewhere."""


def test_every_option_that_reaches_further_is_refused():
    found = set()
    for verb in VERBS:
        for argument in parser_of([verb])[0][verb].assemble_argument_collection():
            for name in argument.names:
                # `no-` and `empty-` options turn something off.
                if REACHING.search(f"{name.replace('-', ' ')} {argument.parameter.help}") and "no-" not in name:
                    found |= {(verb, name)} if name.startswith("--") and "empty-" not in name else set()
    assert {("train", "--tracking.to"), ("evaluate", "--run-code"), ("export", "--push"), ("serve", "--host")} <= found
    for verb, name in found:
        with pytest.raises(ServeError, match=r"cannot be set from a page|runs code as the judge"):
            check_argv([verb, f"{name}=x"])


def start_studio(root):
    """Start the studio as a person does; return its process when it has printed its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "instil", "studio", str(root), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert re.search(r"http://127\.0\.0\.1:\d+/\?token=\S{40,}", process.stdout.readline())
    return process


@pytest.mark.slow
def test_a_studio_killed_in_a_run_finds_it_again_and_goes_on_with_the_queue(root):
    queue = Queue(root)
    first, second, third = queue.add(lasting(root)), queue.add(HELP), queue.add(FAILS)
    studio = start_studio(root)
    process = wait_until(lambda: queue.folder(first).process)
    studio.send_signal(signal.SIGKILL)
    studio.wait()
    studio.stdout.close()
    assert process.is_alive
    assert [queue.job(number).state for number in (first, second)] == ["running", "queued"]
    again = start_studio(root)
    try:
        assert queue.stop(first)
        assert wait_until(lambda: queue.job(first).ended and queue.job(first)).state == "stopped"
        assert wait_until(lambda: queue.job(third).ended and queue.job(third)).state == "failed"
        assert queue.job(second).state == "done"
        assert queue.folder(second).log.read_text().count("Rewrite conversations") == 1
    finally:
        again.terminate()
        assert again.wait(timeout=30) == 0
        again.stdout.close()


@pytest.mark.long
def test_a_training_run_saves_when_it_is_stopped_and_goes_on_where_it_stopped(root):
    base, rows = make_base(root / "base"), make_rows(root / "rows.jsonl")
    recipe = write_recipe(root, {"training": {"max_steps": 100_000}}, base=base, rows=rows)
    queue, metrics = Queue(root), root / "run" / "metrics.jsonl"

    def steps():
        queue.tick()
        assert queue.jobs()[0].state in ("queued", "running", "stopped"), queue.folder(
            queue.jobs()[0].number
        ).log.read_text()
        return metrics.read_text().count('"loss"') if metrics.exists() else 0

    last = 0
    for words in ([], ["--resume"]):
        number = queue.add(["train", str(recipe.relative_to(root)), *words], run="run")
        wait_until(lambda: steps() > last + 3, seconds=180)
        assert queue.stop(number)
        job = ended(queue, number)
        assert (job.state, job.exit_code) == ("stopped", 143), queue.folder(number).log.read_text()
        assert steps() > last
        last = steps()
        assert list((root / "run" / "checkpoints").glob("step-*"))
    assert [line for line in metrics.read_text().splitlines() if '"step": 1,' in line and '"loss"' in line][1:] == []


@pytest.mark.slow
def test_a_studio_that_ends_takes_the_processes_with_it_that_load_and_leaves_its_jobs(root):
    os.mkfifo(root / "pipe.jsonl")
    (root / "rows.jsonl").write_text('{"question": "1+1", "answer": "2"}\n' * 60)
    studio = subprocess.Popen(
        [sys.executable, "-m", "instil", "studio", str(root), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    port, token = re.search(r"127\.0\.0\.1:(\d+)/\?token=(\S+)", studio.stdout.readline()).groups()

    def asked(method, path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=120)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer.headers

    def ask_slow(method, path):
        with contextlib.suppress(OSError, http.client.HTTPException):  # the studio ends before it has answered
            asked(method, path, Cookie=cookie, Origin=f"http://127.0.0.1:{port}")

    wait_until(lambda: port_is_open(int(port)))
    cookie = asked("GET", f"/?token={token}")["set-cookie"].partition(";")[0]
    draft = asked("GET", "/recipe?data=rows.jsonl", Cookie=cookie)["location"]
    queue = Queue(root)
    job = queue.add(["convert", "pipe.jsonl", "out.jsonl"])
    threads = [
        threading.Thread(target=ask_slow, args=words, daemon=True)
        for words in (
            ("POST", f"{draft}/plan"),
            ("GET", "/data/summary?path=rows.jsonl"),
            ("GET", "/ship/tasks?data=rows.jsonl"),
        )
    ]
    for thread in threads:
        thread.start()
    helpers = {"instil.cli.worker", "instil.studio.workers.rows", "instil.studio.ship.suggest"}
    started = wait_until(lambda: len(found := helpers_of(studio.pid, helpers)) == 3 and found)
    wait_until(lambda: queue.folder(job).process)
    studio.send_signal(signal.SIGINT)
    assert studio.wait(timeout=120) == 0
    studio.stdout.close()
    wait_until(lambda: not any(process.is_running() and process.status() != "zombie" for process in started))
    process = queue.folder(job).process
    assert process.is_alive
    os.kill(process.pid, signal.SIGKILL)


def helpers_of(pid, modules):
    """Return the children of a process that run one of some modules."""
    with contextlib.suppress(psutil.Error):
        return [child for child in psutil.Process(pid).children() if modules & set(child.cmdline())]
    return []


def port_is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.slow
def test_a_run_that_ends_while_no_studio_is_there_has_its_exit_code(root):
    queue = Queue(root)
    number = queue.add(FAILS)
    script = f"from pathlib import Path; from instil.studio.jobs.queue import Queue; Queue(Path({str(root)!r})).tick()"
    subprocess.run([sys.executable, "-c", script], check=True)
    wait_until(lambda: JobFolder(queue.folder(number).path).status)
    assert queue.job(number).state == "running"
    queue.tick()
    assert (queue.job(number).state, queue.job(number).exit_code) == ("failed", 2)
