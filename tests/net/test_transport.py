"""The life of a transport: what abort() drops, which water marks are refused, what it tells."""

import asyncio
import socket
import sys

import pytest


def make_pair(loop):
    """A transport, and the socket at its other end."""
    here, there = socket.socketpair()
    there.settimeout(60)
    transport, _ = loop.run_until_complete(
        loop.create_connection(asyncio.Protocol, sock=here),
    )
    return transport, there


def read_all(sock):
    received = b""
    while data := sock.recv(65536):
        received += data
    return received


def finish(loop, transport):
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))


def test_what_the_kernel_takes_is_sent_before_abort(aloop):
    transport, there = make_pair(aloop)

    async def speak():
        transport.write(b"last ")
        transport.writelines([b"words", bytearray(b"!")])
        transport.abort()
        transport.write(b"too late")

    aloop.run_until_complete(speak())
    finish(aloop, transport)
    with there:
        assert read_all(there) == b"last words!"


def test_what_the_kernel_refused_is_dropped_by_abort(aloop):
    transport, there = make_pair(aloop)

    async def speak():
        transport.write(b"x" * 10_000_000)
        transport.abort()

    aloop.run_until_complete(speak())
    finish(aloop, transport)
    with there:
        assert 0 < len(read_all(there)) < 10_000_000


@pytest.mark.parametrize("limits", [{"low": -1}, {"high": -1}, {"high": 1, "low": 2}])
def test_refused_limits_are_named_as_given(aloop, limits):
    transport, there = make_pair(aloop)
    with pytest.raises(ValueError, match="must be") as caught:
        transport.set_write_buffer_limits(**limits)
    high = limits.get("high", 4 * limits.get("low", 0))
    low = limits.get("low", high // 4)
    assert str(caught.value) == f"high ({high}) must be >= low ({low}) must be >= 0"
    finish(aloop, transport)
    there.close()


def test_extra_info(aloop):
    transport, there = make_pair(aloop)
    missing = object()
    assert transport.get_extra_info("socket").fileno() >= 0
    assert transport.get_extra_info("nothing of the kind") is None
    assert transport.get_extra_info("nothing of the kind", missing) is missing
    assert transport.get_extra_info(default=missing, name=5) is missing
    transport._extra["mine"] = None
    assert transport.get_extra_info("mine", missing) is None
    for wrong in ((), ([],), ("socket", None, None)):
        with pytest.raises(TypeError):
            transport.get_extra_info(*wrong)
    finish(aloop, transport)
    assert transport.get_extra_info("mine", missing) is None
    there.close()


def test_another_get_extra_info(aloop, monkeypatch):
    """Tests put one in the place of the base class's, those of websockets do."""
    transport, there = make_pair(aloop)
    monkeypatch.setattr(asyncio.BaseTransport, "get_extra_info", lambda self, name: (name, 1234))
    assert transport.get_extra_info("peername") == ("peername", 1234)
    monkeypatch.undo()
    finish(aloop, transport)
    there.close()


@pytest.mark.parametrize("name", ["connection_made", "data_received", "connection_lost"])
def test_exception_handler_finds_the_exception_being_handled(aloop, name):
    def fail(*args):
        raise ZeroDivisionError

    async def main():
        here, there = socket.socketpair()
        protocol = type("Failing", (asyncio.Protocol,), {name: fail})
        with there:
            transport, _ = await aloop.create_connection(protocol, sock=here)
            there.send(b"words")
            if name != "data_received":
                transport.abort()
            await told

    told = aloop.create_future()
    aloop.set_exception_handler(
        lambda loop, context: told.set_result((sys.exc_info()[1], context["exception"]))
    )
    aloop.run_until_complete(main())
    handled, error = told.result()
    assert isinstance(error, ZeroDivisionError)
    assert handled is error
    aloop.run_until_complete(asyncio.sleep(0))


class Lookalike:
    """Has all that a socket has, and is none."""

    def __init__(self, sock):
        self.sock = sock

    def __getattr__(self, name):
        return getattr(self.sock, name)


def test_what_only_looks_like_a_socket(aloop):
    async def main():
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        transport, _ = await aloop.create_connection(asyncio.Protocol, sock=Lookalike(here))
        transport.write(b"x")
        assert await aloop.sock_recv(there, 10) == b"x"
        transport.close()
        there.close()
        here, there = socket.socketpair(type=socket.SOCK_DGRAM)
        there.setblocking(False)
        transport, _ = await aloop.create_datagram_endpoint(
            asyncio.DatagramProtocol, sock=Lookalike(here)
        )
        there.send(b"y")
        await asyncio.sleep(0.001)
        transport.close()
        there.close()
        await asyncio.sleep(0.001)

    aloop.run_until_complete(main())
