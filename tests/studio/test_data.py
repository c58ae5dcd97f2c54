"""Claims about the data page: rows by their byte, uploads, paths, stored results, and what the views show."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import select
import socket
from html import unescape
from urllib.parse import urlencode

import psutil
import pytest
import yaml
from tests.studio.served import wait_until

from instil.data.sources.rows import read_file
from instil.inspection.findings import KINDS
from instil.studio.catalogue import catalogue
from instil.studio.data import uploads
from instil.studio.data.report_view import findings_at, places_of, report_view
from instil.studio.data.results import MOST_RESULTS, fixed_name, printed
from instil.studio.data.subject import subject_of
from instil.studio.pages.data import PAGE_WORDS, TOKEN_WORDS, Filter, _is_reading, filter_of, rows_view
from instil.studio.workers.line_file import STEP, LineFile
from instil.studio.workspace import OWN
from instil.views.html import script

TABLE = 'sep=;\n\nquestion;answer\n"x\ny";1\n\n;\nb;"c ""d"" "\ntoo;many;fields\ne;f'


def as_read(path, source):
    return [(str(place), str(row)) for place, row in read_file(path, source=source)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"q": 1}\n\n{"q": 2}\n{broken\n{"q": 3}'),
        ("bom.jsonl", '\ufeff{"q": 1}\n{"q": "ü"}\n'),
        ("one.json", '{"q": 1}\n{"q": 2}\n'),
        ("a.csv", TABLE),
        ("bom.csv", "\ufeffquestion,answer\r\n2+2?,4\r\n3+3?,\r\n"),
        ("a.tsv", "question\tanswer\n2+2?\t4\n"),
    ],
)
def test_rows_by_their_byte_are_those_of_the_sources(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    file = LineFile.of(path, source=name)
    expected = as_read(path, name)
    rows = list(file.rows())
    assert [position for position, _, _ in rows] == list(range(len(expected)))
    # A mark in front belongs to the file, not to its first row.
    assert [(str(place), str(row)) for _, place, row in rows] == expected
    for start in range(len(expected)):
        assert [(str(place), str(row)) for _, place, row in file.rows(start)] == expected[start:]
    assert [position for position, _, _ in file.at_lines({place.row for _, place, _ in rows})] == list(range(len(rows)))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", b'[{"q": 1}]'), ("a.txt", b"text"), ("a.jsonl", '{"q": "für"}'.encode("cp1252")), ("a.csv", "q,a\n".encode("utf-16")), ("a.jsonl", b"")],
)  # fmt: skip
def test_what_has_no_rows_at_bytes_is_left_to_the_helper_process(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert LineFile.of(tmp_path / name, source=name) is None


def test_a_far_row_is_a_jump_the_second_time(tmp_path):
    path = tmp_path / "rows.jsonl"
    generator = random.Random(0)
    lines = [f'{{"n": {n}, "x": "{"x" * generator.randrange(40)}"}}\n' + "\n" * (n % 7 == 0) for n in range(5 * STEP)]
    path.write_text("".join(lines))
    file = LineFile.of(path, source="rows.jsonl")
    far = next(file.rows(4 * STEP + 5))
    assert json.loads(far[2])["n"] == 4 * STEP + 5
    assert len(file._marks) == 5
    assert next(file.rows(4 * STEP + 5)) == far
    assert [json.loads(row)["n"] for _, _, row in file.at_lines({far[1].row, 1, 99_999})] == [0, 4 * STEP + 5]


@pytest.mark.slow
def test_a_table_that_breaks_off_says_where(served):
    (served.root / "broken.csv").write_text('question,answer\n2+2?,4\n"3+3?,6\n')
    answer = served.get("/data/view?path=broken.csv")
    assert answer.status == 200
    assert "broken.csv:3: not valid CSV" in answer.text


def post_file(served, name, body, **headers):
    sent = {"Cookie": served.cookie, "Origin": served.url} | headers
    return served.request("POST", f"/data/upload?name={name}", headers=sent, body=body)


def test_a_file_gets_a_name_of_our_choosing_and_never_replaces_another(served):
    answers = [post_file(served, "..%2F..%2Fmy%20rows.CSV", b"q,a\n%d,2\n" % number) for number in range(2)]
    assert [json.loads(answer.text)["path"] for answer in answers] == ["data/my-rows.csv", "data/my-rows-2.csv"]
    assert (served.root / "data" / "my-rows-2.csv").read_bytes() == b"q,a\n1,2\n"
    packed = [json.loads(post_file(served, "a.jsonl.gz", b"x").text)["path"] for _ in range(2)]
    assert packed == ["data/a.jsonl.gz", "data/a-2.jsonl.gz"]
    for name in ("photo.png", "", "%2e%2e"):
        answer = post_file(served, name, b"x")
        assert (answer.status, "cannot be read" in answer.text) == (415, True), name
    assert len(list((served.root / "data").iterdir())) == 4


def test_a_file_that_is_too_large_leaves_nothing(served, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 1000)
    answer = post_file(served, "large.jsonl", b"x" * 1001)
    assert (answer.status, "can be sent. Copy it into the workspace" in answer.text) == (413, True)
    # A browser may announce no size; then the bytes are counted.
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [b"y" * 600] * 3) + b"0\r\n\r\n"
    connection = start_upload(served, **{"Transfer-Encoding": "chunked"})
    connection.send(chunked)
    assert connection.getresponse().status == 413
    connection.close()
    assert list((served.root / "data").iterdir()) == []
    assert post_file(served, "small.jsonl", b"x" * 1000).status == 200


def start_upload(served, **headers):
    """Return a connection on which the head of an upload was sent."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    connection.putrequest("POST", "/data/upload?name=large.jsonl")
    for name, value in {"Cookie": served.cookie, "Origin": served.url, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection


@pytest.mark.slow
def test_two_gigabytes_are_refused_at_the_limit_and_fill_neither_disk_nor_memory(served, monkeypatch):
    announced = start_upload(served, **{"Content-Length": str(uploads.MOST_BYTES + 1)})
    assert announced.getresponse().status == 413  # before a byte of it was sent
    announced.close()
    limit, part, sent = 32 << 20, b"x" * (1 << 20), 0
    monkeypatch.setattr(uploads, "MOST_BYTES", limit)
    before, largest = psutil.Process().memory_info().rss, 0
    connection = start_upload(served, **{"Transfer-Encoding": "chunked"})
    with contextlib.suppress(ConnectionError):  # the studio hangs up
        while sent < 2 << 30 and not select.select([connection.sock], [], [], 0)[0]:
            connection.send(b"%x\r\n%s\r\n" % (len(part), part))
            sent += len(part)
            largest = max(largest, psutil.Process().memory_info().rss)
    connection.close()
    assert limit <= sent < 4 * limit  # what lies in buffers of the system comes on top
    assert largest - before < limit
    wait_until(lambda: list((served.root / "data").iterdir()) == [])


def test_a_file_that_breaks_off_leaves_nothing(served):
    head = f"POST /data/upload?name=a.jsonl HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nCookie: {served.cookie}\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(f"{head}Origin: {served.url}\r\nContent-Length: 5000000\r\n\r\n".encode() + b"x" * 300_000)
        wait_until(lambda: list((served.root / "data").glob("*")))
    wait_until(lambda: not list((served.root / "data").iterdir()))


def test_no_room_on_the_disk_is_said_before_anything_is_written(served, monkeypatch):
    monkeypatch.setattr(uploads, "_KEPT_FREE", 1 << 60)
    answer = post_file(served, "a.jsonl", b"x")
    assert (answer.status, "Free some space" in answer.text) == (507, True)
    assert list((served.root / "data").iterdir()) == []


def test_paths_stay_in_the_workspace(served, tmp_path):
    (tmp_path / "secret.jsonl").write_text('{"question": "secret", "answer": "x"}\n')
    (served.root / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (served.root / "folder").mkdir()
    (served.root / "folder" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    for path in ("../secret.jsonl", str(tmp_path / "secret.jsonl"), "link.jsonl", "folder", "folder/link.jsonl", "", OWN, "hf://a/b", "~/x.jsonl", "x\0.jsonl"):  # fmt: skip
        for page in ("view", "summary", "rows", "scan", "report", "fixes"):
            answer = served.request("GET", f"/data/{page}?path={path}".replace("\0", "%00"), headers={"Cookie": served.cookie})  # fmt: skip
            assert answer.status == 404, (path, page)
            assert "secret&#34;" not in answer.text
    assert served.post("/data/fix?path=../secret.jsonl", target="x.jsonl").status == 404
    (served.root / "rows.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
    assert served.post("/data/fix?path=rows.jsonl", target="../x.jsonl").status == 404
    assert "no such file in the workspace" in served.get("/data/open?path=../secret.jsonl").text
    assert served.get("/data/open?path=rows.jsonl").headers["location"] == "/data/view?path=rows.jsonl"
    assert served.get("/data/open?path=owner/name").headers["location"] == "/data/view?path=owner%2Fname"


def test_a_wrong_model_template_or_column_is_said_beside_it(served):
    (served.root / "rows.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
    for query, words in (
        ("model=nothing.here", "no such model"),
        ("model=../x", "no such model"),
        ("template=nothing", "no template of this name"),
        ("template=/etc/passwd", "no template of this name"),
        ("user={question}", "no pattern for assistant"),
        ("assistant={answer}[[", "[[ without ]]"),
        ("assistant={answer}&objective=dpo", "answers to imitate only"),
    ):
        answer = served.get(f"/data/view?path=rows.jsonl&{query}")
        assert (answer.status, words in answer.text) == (200, True), query


def test_text_of_rows_is_text(served):
    evil = "</script><script>window.evil=1</script>"
    (served.root / "rows.jsonl").write_text(json.dumps({"question": evil, "answer": '" onerror="x'}) + "\n")
    text = served.get("/data/view?path=rows.jsonl").text
    assert "window.evil" in text
    assert evil not in text
    assert '" onerror="x' not in text


def test_a_subject_is_its_address(served):
    studio = served.server.app.state.studio
    (served.root / "-rows.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
    subject = subject_of({"path": "-rows.jsonl", "user": "{question}", "assistant": "{answer}", "format": "alpaca", "template": "chatml"}, studio)  # fmt: skip
    assert subject_of(subject.query, studio) == subject
    assert subject.argv[:2] == ["inspect", "./-rows.jsonl"]
    assert "--data.columns.user={question}" in subject.argv
    before = subject.key(served.root)
    (served.root / "-rows.jsonl").write_text('{"question": "3+3?", "answer": "66"}\n')
    assert subject.key(served.root) != before
    assert fixed_name(studio, subject) == "-rows-fixed.jsonl"
    (served.root / "-rows-fixed.jsonl").touch()
    assert fixed_name(studio, subject) == "-rows-fixed-2.jsonl"


def test_the_reading_that_is_used_is_marked_among_all(served):
    (served.root / "rows.jsonl").write_text("{}\n")
    found, one = {"format": "question_answer"}, {"format": "question_answer", "objective": "sft"}
    for query, reading, is_here in (
        ({}, one, True),
        ({"format": "question_answer"}, one, True),
        ({"format": "alpaca"}, one, False),
        ({"objective": "dpo"}, {"format": "auto", "objective": "dpo"}, True),
        ({}, {"format": "alpaca", "objective": "sft"}, False),
    ):
        subject = subject_of({"path": "rows.jsonl", **query}, served.server.app.state.studio)
        assert _is_reading(subject, reading, found) == is_here, (query, reading)


def test_a_recipe_is_made_for_what_is_looked_at(served):
    (served.root / "rows.csv").write_text("q,a,b\n1,2,3\n")
    looked = {"path": "rows.csv", "user": "{q}", "assistant": "{a}", "model": "demo", "template": "chatml"}
    subject = subject_of(looked, served.server.app.state.studio)
    address = served.get(f"/recipe?{urlencode(subject.recipe_query)}").headers["location"]
    page = served.get(address).text
    made = yaml.safe_load(
        unescape(page[page.index('<textarea id="yaml"') :].partition(">")[2].partition("</textarea>")[0])
    )
    assert made["data"]["sources"] == [subject.settings["data"]["sources"][0] | {"format": "pattern"}]
    assert made["model"] == {"name": "demo", "template": "chatml"}


def test_what_is_no_filter_counts_as_not_set():
    assert (
        filter_of({"start": "x", "finding": "nothing", "role": "gpt", "shortest": "-1", "longest": "9" * 30})
        == Filter()
    )
    found = filter_of({"start": "51", "finding": "loop", "role": "tool", "shortest": "3", "text": " a "})
    assert found == Filter(51, "loop", "a", "tool", 3)
    assert filter_of({name: str(value) for name, value in found.query.items()}) == found


def test_pages_of_rows_have_their_neighbours(served):
    studio = served.server.app.state.studio
    (served.root / "rows.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n' * 120)
    subject = subject_of({"path": "rows.jsonl"}, studio)
    places = [f"rows.jsonl:{line}" for line in range(1, 121)]
    view = rows_view(subject, Filter(51, "loop"), None, places, "")
    assert [row["place"] for row in view["rows"]] == places[50:100]
    assert (view["previous"][-8:], view["next"][-9:], view["total"]) == ("&start=1", "start=101", 120)
    last = rows_view(subject, Filter(101, "loop"), None, places, "")
    assert (len(last["rows"]), last["next"]) == (20, "")
    scan = rows_view(subject, Filter(text="a"), None, None, "")
    assert (scan["scan"], scan["rows"]) == ("/data/scan?path=rows.jsonl&text=a", [])
    text = served.get("/data/view?path=rows.jsonl&start=101").text
    assert text.count("<article") == 20
    assert "rows.jsonl:101" in text


def test_the_result_is_found_in_a_log_with_other_lines(tmp_path):
    log = tmp_path / "log.txt"
    for text, expected in (
        ('{\n "a": 1\n}\n', ({"a": 1}, "}")),
        ('a warning {\n{\n "a": 1\n}\nerror: none can be trained\n', ({"a": 1}, "error: none can be trained")),
        ("error: no such file\n", (None, "error: no such file")),
        ('{\n "a": 1', (None, ' "a": 1')),
    ):
        log.write_text(text)
        assert printed(log) == expected
    assert printed(tmp_path / "none") == (None, "")
    assert MOST_RESULTS > 10


@pytest.mark.slow
def test_an_inspection_is_kept_and_goes_with_the_file(served):
    rows = served.root / "rows.jsonl"
    rows.write_text('{"question": "2+2?", "answer": "4"}\n{"question": "3+3?", "answer": ""}\n')
    assert "Inspect the whole file" in served.get("/data/view?path=rows.jsonl").text
    assert served.post("/data/inspect?path=rows.jsonl").status == 303
    assert served.post("/data/inspect?path=rows.jsonl").status == 303  # pressed twice
    assert len(served.queue.jobs()) == 1
    text = wait_until(
        lambda: (found := served.get("/data/report?path=rows.jsonl").text) and "empty answer" in found and found
    )
    assert "rows.jsonl:2" in text
    served.queue.remove(1)  # the list of jobs is tidied; the result stays
    assert "empty answer" in served.get("/data/view?path=rows.jsonl").text
    assert served.get("/data/view?path=rows.jsonl&finding=empty_answer").text.count("<article") == 1
    rows.write_text('{"question": "2+2?", "answer": "4"}\n')
    assert "Inspect the whole file" in served.get("/data/view?path=rows.jsonl").text


def test_a_report_has_every_count_and_the_first_places():
    tally = {"count": 0, "places": [], "example": ""}
    ledger = {
        "rows_in": 3, "rows_trained": 2, "rows_left_out": 1, "tokens": 10, "trained_tokens": 5, "examples": 2, "reading": "sft",
        "left_out": {"unknown format": {"count": 1, "places": ["a:1"], "example": ""}}, "parts_left_out": {}, "shortened": {}, "rendered": {},
        "duplicates": tally | {"count": 4}, "escaped": tally, "inline_reasoning": tally, "part_weights": tally,
    }  # fmt: skip
    kept = [{"kind": "loop", "place": f"a:{n}", "seen": "x", "severity": "warning", "remedy": ""} for n in range(5)]
    kept.append({"kind": "duplicate", "place": "a:1", "seen": "y", "severity": "warning", "remedy": ""})
    kept.append({"kind": "token_factor", "place": None, "seen": "z", "severity": "warning", "remedy": ""})
    report = {
        "ledger": ledger, "formats": [], "notes": [], "warnings": [{"text": "w"}], "trained_share": {"bins": [[0.0, 0.5, 1], [0.5, 1.0, 2]]},
        "tokens": {"count": 2, "bins": [[1, 2, 1], [2, 3, 4]], "median": 1, "p95": 2, "largest": 2},
        "findings": {"counts": {"loop": 2000, "duplicate": 1, "token_factor": 1}, "kept": kept},
    }  # fmt: skip
    view = report_view(report)
    assert view["share"] == "50.0%"
    assert view["tallies"] == [("left_out", "unknown format", 1, ["a:1"]), ("duplicates", "", 4, [])]
    assert [(one["kind"], one["count"], one["places"], len(one["first"])) for one in view["findings"]] == [
        ("loop", 2000, 5, 3),
        ("duplicate", 1, 1, 1),
        ("token_factor", 1, 0, 1),
    ]
    assert [name for name, _, _ in view["charts"]] == ["tokens", "trained_share"]
    assert view["charts"][0][2] == [("1", 1, 25.0), ("2", 4, 100.0)]
    assert places_of(report, "any") == ["a:0", "a:1", "a:2", "a:3", "a:4"]
    assert findings_at(report, ["a:1"]) == {"a:1": [("loop", "x"), ("duplicate", "y")]}


def test_words_of_tokens_and_findings_are_those_of_the_mask_page():
    english = catalogue("en")
    own = script("examples.js")
    for key in TOKEN_WORDS:
        assert f'{key}: "{english[f"data.token_{key}"]}"' in own, key
    assert own.count('", ') + own.count('",\n') >= len(TOKEN_WORDS)
    assert {key.removeprefix("data.token_") for key in english if key.startswith("data.token_")} == set(TOKEN_WORDS)
    assert {key.removeprefix("data.js_") for key in english if key.startswith("data.js_")} == set(PAGE_WORDS)
    assert [kind.title for kind in KINDS.values()] == [english[f"findings.title_{name}"] for name in KINDS]
    assert [kind.remedy for kind in KINDS.values()] == [english[f"findings.remedy_{name}"] for name in KINDS]
