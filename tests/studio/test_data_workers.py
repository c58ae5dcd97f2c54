"""Claims about the helper processes: what they answer, that they end with the studio, and that a dead one is started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from tests.studio.served import wait_until

from instil.errors import DataError
from instil.studio.jobs.processes import this_process
from instil.studio.workers.commands import Commands
from instil.studio.workers.looking import Look
from instil.studio.workers.process import MOST_PROCESSES, Worker, WorkerError, Workers
from instil.studio.workers.reading import rows_of
from instil.studio.workers.scan import Filter, found_in

ECHO = "tests.studio.echo_worker"
CHATS = [
    {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello. Straße"}]},
    {"messages": [{"role": "user", "content": "What is \"that\"?"}, {"role": "assistant", "content": "A needle."}]},
    {"question": "Where?", "answer": "There is no NEEDLE here, only very many words, one after the other."},
]  # fmt: skip


@pytest.fixture(autouse=True)
def found_by_subprocesses(monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def settings_of(path, **more):
    return {"model": {"name": "demo"}, "data": {"sources": [{"path": str(path), **more}]}, "training": {"objective": "sft"}}  # fmt: skip


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_process_answers_and_a_dead_one_is_started_again(tmp_path):
    worker = Worker(ECHO, tmp_path, {"model": "a"})
    setup, question, first = worker.ask({"ask": "one"})
    assert (setup, question) == ({"model": "a"}, {"ask": "one"})
    assert worker.ask({"ask": "two"})[2] == first
    os.kill(first, signal.SIGKILL)
    assert worker.ask({"ask": "three"})[2] != first
    with pytest.raises(WorkerError, match="no such thing"):
        worker.ask({"wrong": True})
    with pytest.raises(WorkerError, match="out of luck"):
        worker.ask({"ask": "die"})
    assert worker.ask({"ask": "four"})[1] == {"ask": "four"}
    with pytest.raises(WorkerError, match="did not answer"):
        worker.ask({"ask": "five", "sleep": 60}, seconds=0.5)
    worker.close()


def test_a_studio_keeps_a_few_processes_and_ends_them(tmp_path):
    workers = Workers(tmp_path)
    processes = [this_process(workers.ask(ECHO, {"model": number}, {})[2]) for number in range(MOST_PROCESSES + 1)]
    assert [process.is_alive for process in processes] == [False] + [True] * MOST_PROCESSES
    assert workers.ask(ECHO, {"model": 1}, {})[2] == processes[1].pid
    workers.close()
    assert not any(process.is_alive for process in processes)


def test_a_question_that_waits_ends_with_its_studio_and_starts_no_process_anew(tmp_path):
    workers, ended = Workers(tmp_path), []

    def ask(how):
        with pytest.raises(WorkerError, match="the studio is ending"):
            how(ECHO, {}, {"sleep": 3600}) if how == workers.ask else how(ECHO, {"sleep": 3600})
        ended.append(how)

    threads = [
        threading.Thread(target=ask, args=(how,), daemon=True) for how in (workers.ask, workers.ask, workers.ask_once)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(children_with(ECHO)) == 2)
    workers.close()
    for thread in threads:
        thread.join(timeout=60)
    assert len(ended) == 3
    assert children_with(ECHO) == []
    with pytest.raises(WorkerError, match="the studio is ending"):
        workers.ask(ECHO, {}, {})


def children_with(word):
    """Return the processes of this one that have a word in their command."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [process] if word in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE else []
    return found


def test_commands_that_take_no_notice_end_with_their_studio(tmp_path, monkeypatch):
    (tmp_path / ".instil-studio").mkdir()
    deaf = tmp_path / "deaf.py"
    deaf.write_text(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)', 'deaf-child'])\n"
        "time.sleep(3600)\n"
    )
    monkeypatch.setattr("instil.studio.workers.commands.MODULE", ["-u", str(deaf)])
    monkeypatch.setattr("instil.studio.workers.commands.END_SECONDS", 0.2)
    commands = Commands(tmp_path)
    number = commands.start("run", ["plan"])
    wait_until(lambda: children_with("deaf-child"))
    commands.close()
    assert commands.result(number).status is None
    wait_until(lambda: not children_with("deaf-child"))
    assert children_with(str(deaf)) == []
    assert commands.result(commands.start("read", ["train"])).status is None
    assert children_with(str(deaf)) == []


def test_a_process_ends_when_its_studio_is_killed(tmp_path):
    source = f"""
import sys, time
from pathlib import Path
from instil.studio.workers.process import Worker
worker = Worker({ECHO!r}, Path({str(tmp_path)!r}), {{}})
print(worker.ask({{}})[2], flush=True)
time.sleep(60)
"""
    studio = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    process = this_process(int(studio.stdout.readline()))
    assert process.is_alive
    studio.kill()
    studio.communicate()
    wait_until(lambda: not process.is_alive)


def test_it_answers_how_rows_are_read_and_what_the_template_does(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("Frage,Antwort\nWhat is 2+2?,4\nWhat is 3+3?,\n", encoding="utf-8")
    look = Look({"name": "demo", "template": "llama-3"})
    found = look.answer({"ask": "format", "key": "a", "settings": settings_of(rows)})
    assert (found["format"], found["readable"], found["columns"]) == ("unknown", 0, ["Frage", "Antwort"])
    assert found["readings"] == []
    assert {one["format"] for one in found["unreadable"]} > {"messages", "alpaca", "preference"}
    mapped = settings_of(rows, columns={"user": "{Frage}", "assistant": "{Antwort}"})
    found = look.answer({"ask": "format", "key": "b", "settings": mapped})
    assert (found["format"], found["readable"]) == ("pattern", 2)
    shown = look.answer({"ask": "rows", "key": "b", "settings": mapped, "at": [1, 0, 7]})
    assert [row["at"] for row in shown["rows"]] == [0, 1]
    assert [shown["kinds"][number] for number, _ in shown["rows"][1]["findings"]] == ["empty_answer"]
    (example,) = shown["rows"][0]["examples"]
    trained = [run for run in example["runs"] if run[1] > 0]
    assert sum(run[0] for run in trained) == 2  # the answer and the stop token
    by_place = look.answer({"ask": "rows", "key": "b", "settings": mapped, "places": [f"{rows}:3"]})
    assert [row["at"] for row in by_place["rows"]] == [1]
    fixes = look.answer({"ask": "fixes", "key": "b", "settings": mapped})
    assert (fixes["looked"], fixes["is_all"], len(fixes["changed"])) == (2, True, 1)
    assert fixes["changed"][0]["left_out"]
    template = look.answer({"ask": "template"})
    assert template["passed"]
    assert template["own"]["differences"]
    assert not template["own"]["has_own"]


def test_pairs_are_packed_as_pairs_and_other_readings_are_offered(tmp_path):
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"prompt": "A river?", "chosen": "The Nile.", "rejected": "No."}])
    settings = settings_of(pairs) | {"training": {"objective": "dpo"}}
    look = Look({"name": "demo"})
    (row,) = look.answer({"ask": "rows", "key": "a", "settings": settings, "at": [0]})["rows"]
    assert row["pairs"] == [[0, pytest.approx(10, abs=9)]]
    assert [example["side"] for example in row["examples"]] == ["chosen", "rejected"]
    found = look.answer({"ask": "format", "key": "b", "settings": settings_of(pairs)})
    assert ("auto", "dpo") in [(one["format"], one["objective"]) for one in found["readings"]]


@pytest.mark.parametrize(
    ("wanted", "positions"),
    [
        (Filter(text="needle"), [1, 2]),
        (Filter(text='is "that"?'), [1]),
        (Filter(text="STRASSE"), [0]),
        (Filter(text="role"), []),  # a name of a column
        (Filter(role="system"), [0]),
        (Filter(text="kind", role="assistant"), []),
        (Filter(text="needle", role="assistant"), [1, 2]),
        (Filter(shortest=2, longest=2), [1, 2]),
        (Filter(shortest=3), [0]),
    ],
)
def test_a_filter_keeps_the_rows_that_have_all_of_it(tmp_path, wanted, positions):
    data = rows_of(settings_of(write_rows(tmp_path / "rows.jsonl", CHATS)))

    def length(conversations):
        return len(conversations[0].messages)

    found = [one for one in found_in(data.start_at(0), wanted, data, length) if not isinstance(one, int)]
    assert [position for position, _ in found] == positions


def test_escaped_text_is_found_too(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "你好吗", "answer": "Füße"}) + "\n", encoding="utf-8")
    data = rows_of(settings_of(path))
    for text in ("你好", "FÜSSE"):
        assert list(found_in(data.start_at(0), Filter(text=text), data, len)) != [], text


def test_rows_of_any_container_are_found_by_position_and_place(tmp_path):
    array = tmp_path / "rows.json"
    array.write_text(
        json.dumps([{"question": f"{n}?", "answer": str(n)} for n in range(9)], indent=1), encoding="utf-8"
    )
    data = rows_of(settings_of(array))
    assert [position for position, _, _ in data.at([7, 2, 99])] == [2, 7]
    assert [row["answer"] for _, _, row in data.at([3])] == ["3"]
    place = str(data.at([5])[0][1])
    assert [position for position, _, _ in data.at_places([place])] == [5]


def test_a_reader_goes_on_where_it_stands_and_one_that_has_failed_is_not_asked_again(tmp_path):
    array = tmp_path / "rows.json"
    array.write_text('[{"question": "1?", "answer": "1"}, {"question": "2?", "answer": "2"}, oh', encoding="utf-8")
    data = rows_of(settings_of(array))
    assert [position for position, _, _ in data.at([0])] == [0]
    assert [position for position, _, _ in data.at([1])] == [1]
    for _ in range(2):
        with pytest.raises(DataError, match="not valid JSON"):
            data.at([2])
    assert [position for position, _, _ in data.at([0, 1])] == [0, 1]
