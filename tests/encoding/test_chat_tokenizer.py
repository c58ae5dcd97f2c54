"""One chat tokenizer used by several threads at once, as a server or a person's own program may."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.conformance.tokenizers_made import make_tokenizer
from tests.encoding.chats import CHATML, SPECIAL

from instil.conversation import Example
from instil.encoding import tokenization as tokens
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings


@pytest.fixture
def often_interrupted() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def fresh() -> ChatTokenizer:
    return ChatTokenizer.from_tokenizer(
        make_tokenizer("byte_level", template=CHATML, special=SPECIAL, eos="<|endoftext|>")
    )


def talk(number: int) -> list[dict[str, str]]:
    text = "".join(f" word{number}x{each}" for each in range(4))
    return [{"role": "user", "content": f"Say{text}  "}, {"role": "assistant", "content": f"Well,{text}"}]


@pytest.mark.slow
@pytest.mark.usefixtures("often_interrupted")
def test_threads_get_what_one_thread_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_CACHE_CHARACTERS", 0)  # what is remembered is forgotten all the time
    alone, shared = fresh(), fresh()
    limited = shared.with_settings(EncodingSettings(max_tokens=10_000))
    wanted = [(alone.prompt(talk(number)[:1]), alone.encode(talk(number))) for number in range(120)]

    def work(number: int) -> tuple[list[int], list[Example]]:
        (many,) = limited.encode_many([talk(number)])
        assert many == shared.encode(talk(number))
        return shared.prompt(talk(number)[:1]), shared.encode(talk(number))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(120))) == wanted
    assert shared.report.conversations == 240
