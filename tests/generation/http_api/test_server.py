"""Which addresses a server may use."""

from __future__ import annotations

import asyncio
import socket

import pytest

from instil.errors import ServeError
from instil.generation.decoder.prefixes import PREFIX_BYTES
from instil.generation.http_api.addresses import listen
from instil.generation.http_api.server import _banner, check_address
from instil.generation.http_api.settings import ServeSettings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "::1"])
def test_loopback_needs_no_key(host, monkeypatch):
    monkeypatch.delenv("INSTIL_API_KEY", raising=False)
    assert check_address(ServeSettings(host=host)).api_key is None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_another_address_needs_a_key_which_the_environment_may_hold(host, monkeypatch):
    monkeypatch.delenv("INSTIL_API_KEY", raising=False)
    with pytest.raises(ServeError, match=r"others can reach it\. .* Set api_key or INSTIL_API_KEY\.$"):
        check_address(ServeSettings(host=host))
    assert check_address(ServeSettings(host=host, api_key="k")).api_key == "k"
    monkeypatch.setenv("INSTIL_API_KEY", "secret")
    assert check_address(ServeSettings(host=host)).api_key == "secret"


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist_is_refused(port):
    with pytest.raises(ServeError, match=rf"port {port}: no such port\. Allowed is 0 to 65535\."):
        check_address(ServeSettings(port=port))


@pytest.mark.parametrize("size", [-1.0, float("nan"), float("inf")])
def test_a_size_of_kept_texts_that_does_not_exist_is_refused(size):
    with pytest.raises(ServeError, match=r"prefix_mb.\S+: no such size\. Expected 0 or more\."):
        check_address(ServeSettings(prefix_mb=size))
    assert check_address(ServeSettings(prefix_mb=0)).prefix_mb == 0
    assert ServeSettings().prefix_mb * 1e6 == PREFIX_BYTES  # as of an engine that is not served


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(ServeError, match=r"cannot listen there .*Choose another port or host\.$"):
            listen("127.0.0.1", taken.getsockname()[1])


def test_small_pieces_of_an_answer_are_sent_at_once():
    """asyncio switches Nagle's algorithm off only for sockets whose protocol is named: first pieces came 40 ms late."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_, writer):
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(connected, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                value = await found
                writer.close()
        return value

    assert asyncio.run(accepted()) == 1


def test_the_first_lines_name_the_address_and_the_chat_page():
    with listen("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        lines = _banner("tiny", ServeSettings(), listener)
    assert lines == [f"serving tiny at {url}/v1 (Ctrl-C stops it)", f"chat page: {url}/"]


def test_the_address_of_all_addresses_is_printed_as_one_that_a_browser_opens():
    with listen("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        first, page, more = _banner("tiny", ServeSettings(host="0.0.0.0", api_key="k"), listener)
    assert first == f"serving tiny at http://127.0.0.1:{port}/v1 (Ctrl-C stops it)"
    assert page == f"chat page: http://127.0.0.1:{port}/"
    assert more == f"0.0.0.0: every address of this machine. Others use its name: http://{socket.gethostname()}:{port}/"
