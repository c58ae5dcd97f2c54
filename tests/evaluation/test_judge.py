"""A judge of two answers: a function, and a server on loopback that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.evaluation import judges
from tests.evaluation.cases import case

from instil.errors import EvaluationError
from instil.evaluation.evaluate import evaluate
from instil.evaluation.judge import KEY_VARIABLE, _judged, load_judge
from instil.generation.settings import SamplingSettings

SHORT, LONG = case("Oslo"), case("It is the city of Oslo")


class _JudgingServer(ThreadingHTTPServer):
    """Prefers the shorter answer, says so as a model would, and keeps what it was asked."""

    def __init__(self, reply="Answer {} is shorter. [[{}]]", key=""):
        self.asked, self.reply, self.key = [], reply, key
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._send({"data": [{"id": "judge-1"}]})

    def do_POST(self):
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.send_error(401)
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        text = body["messages"][-1]["content"]
        first, _, second = text.partition("Answer A:\n")[2].rpartition("\n\nWhich")[0].partition("\n\nAnswer B:\n")
        letter = "A" if len(first) < len(second) else "B"
        self._send({"choices": [{"message": {"content": self.server.reply.format(letter, letter)}}]})

    def _send(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(**settings):
        server = _JudgingServer(**settings)
        threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_win_is_one_in_both_orders():
    assert _judged(SHORT, LONG, judges.shorter) == 1
    assert _judged(LONG, SHORT, judges.shorter) == 0


def test_a_judge_that_favours_a_place_sees_a_tie():
    assert _judged(SHORT, LONG, judges.first_always) == 0.5


def test_equal_answers_are_a_tie_without_a_question():
    def never(*_):
        raise AssertionError("asked")

    assert _judged(SHORT, case("Oslo"), never) == 0.5


def test_a_server_is_asked_with_its_first_model_and_its_last_letter_counts(serve):
    server = serve(reply="At first [[C]], but {} is better: [[{}]]")
    judge = load_judge(server.address)
    assert _judged(SHORT, LONG, judge) == 1
    assert [body["model"] for body in server.asked] == ["judge-1", "judge-1"]
    assert all(body["temperature"] == 0 for body in server.asked)
    assert "user: q" in server.asked[0]["messages"][-1]["content"]


def test_an_answer_without_a_letter_is_a_tie(serve):
    assert _judged(SHORT, LONG, load_judge(serve(reply="I cannot say.").address, model="m")) == 0.5


def test_a_key_is_read_from_its_variable(serve, monkeypatch):
    server = serve(key="secret")
    judge = load_judge(server.address, model="m")
    with pytest.raises(EvaluationError, match=rf"status 401.*Put its key into {KEY_VARIABLE}"):
        _judged(SHORT, LONG, judge)
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    assert _judged(SHORT, LONG, judge) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt", r"judge: found 'gpt'\. Expected an address such as http://localhost:8000/v1, or module:function"),
        ("no_such_module:f", r"no_such_module cannot be imported"),
        ("tests.evaluation.judges:nothing", r"has no function nothing"),
        ("http://127.0.0.1:9/v1", r"judge: http://127\.0\.0\.1:9/v1/models: .*refused.*Check the address"),
    ],
)
def test_a_judge_that_is_not_there(name, message):
    with pytest.raises(EvaluationError, match=message):
        load_judge(name)


def test_a_function_that_says_something_else_or_fails():
    with pytest.raises(EvaluationError, match=r"returned 'the first one'\. Expected first, second or tie"):
        _judged(SHORT, LONG, judges.wordy)
    with pytest.raises(EvaluationError, match=r"the function failed \(ZeroDivisionError"):
        _judged(SHORT, LONG, lambda *_: 1 / 0)


def test_the_win_rate_stands_with_the_figures_of_both_models(tuned, base, prompts):
    judge = load_judge("tests.evaluation.judges:shorter")
    settings = SamplingSettings(max_new_tokens=12)
    found = evaluate(tuned, prompts, tasks=["exact_match"], against=base, settings=settings, judge=judge)
    rates = [model.figures["judge"]["win_rate"].value for model in found.models]
    assert sum(rates) == pytest.approx(1)
    assert found.tasks["judge"] == "win_rate"
    assert found.comparisons["judge"].wins + found.comparisons["judge"].losses > 0


def test_one_model_has_nothing_to_be_judged_against(tuned, prompts):
    with pytest.raises(EvaluationError, match=r"judge: one model alone.*against"):
        evaluate(tuned, prompts, tasks=["exact_match"], judge=judges.shorter)
