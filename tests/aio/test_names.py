"""getaddrinfo and getnameinfo."""

import asyncio
import gc
import socket
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

import pyev


@pytest.mark.parametrize(
    ("host", "port", "options"),
    [
        ("127.0.0.1", 80, {}),
        ("127.0.0.1", 80, {"type": socket.SOCK_STREAM}),
        ("::1", 443, {"family": socket.AF_INET6, "type": socket.SOCK_DGRAM}),
        ("0.0.0.0", None, {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}),
        (None, 80, {"type": socket.SOCK_STREAM}),
        (b"127.0.0.1", b"80", {"type": socket.SOCK_STREAM}),
        ("127.1", "80", {"type": socket.SOCK_STREAM}),
        ("fe80::1%lo", 1, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", 65536, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", 0, {"proto": socket.IPPROTO_UDP}),
        ("127.0.0.1", 80, {"type": 1, "family": socket.AF_UNSPEC}),
        ("127.0.0.1", 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}),
    ],
)
def test_addresses(
    aloop: asyncio.AbstractEventLoop, host: Any, port: Any, options: dict[str, Any]
) -> None:
    async def main() -> Any:
        found = [await aloop.getaddrinfo(host, port, **options) for _ in range(3)]
        await aloop.shutdown_default_executor()
        return found

    expected = socket.getaddrinfo(host, port, **options)
    assert aloop.run_until_complete(main()) == [expected] * 3


@pytest.mark.parametrize(
    ("host", "options"),
    [("::1", {"family": socket.AF_INET}), ("127.0.0.1", {"type": 77}), ("a" * 300, {})],
)
def test_refused(aloop: asyncio.AbstractEventLoop, host: str, options: dict[str, Any]) -> None:
    async def main() -> None:
        try:
            await aloop.getaddrinfo(host, 80, **options)
        finally:
            await aloop.shutdown_default_executor()

    with pytest.raises((OSError, UnicodeError)) as expected:
        socket.getaddrinfo(host, 80, **options)
    with pytest.raises(type(expected.value)) as raised:
        aloop.run_until_complete(main())
    assert str(raised.value) == str(expected.value)


def test_numeric_address_takes_no_thread() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "run_in_executor", side_effect=AssertionError):
            for host in ("127.0.0.1", "::1"):
                await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)

    pyev.run(main(), debug=False)


def test_the_answer_is_the_callers_own(aloop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        expected = socket.getaddrinfo("127.0.0.1", 80)
        first = await aloop.getaddrinfo("127.0.0.1", 80)
        first.clear()
        assert await aloop.getaddrinfo("127.0.0.1", 80) == expected
        await aloop.shutdown_default_executor()

    aloop.run_until_complete(main())


def test_more_addresses_than_are_remembered(aloop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        questions = [(f"127.0.{number}.1", 80 + number % 3) for number in range(100)]
        for host, port in questions + questions:
            (found,) = await aloop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            assert found[4] == (host, port)
        await aloop.shutdown_default_executor()

    aloop.run_until_complete(main())


def test_asked_for_others_while_an_answer_is_copied(script: Callable[..., str]) -> None:
    """By what the collector finds in the middle of that."""
    source = """
    import gc, pyev

    class Garbage:
        def __init__(self):
            self.me = self

        def __del__(self):
            while asking:
                asking.pop()
                for number in range(600):
                    loop.getaddrinfo(f"10.0.{number // 200}.{number % 200}", 80).close()

    def ask():
        try:
            loop.getaddrinfo("127.0.0.1", 80).send(None)
        except StopIteration as answer:
            return answer.value

    loop = pyev.new_event_loop()
    expected = ask()
    lists = [[] for _ in range(2000)]  # those that are made again and again are in use
    for after in range(30):
        asking = [1]
        gc.collect()
        gc.disable()
        Garbage()
        gc.set_threshold(gc.get_count()[0] + after)
        gc.enable()
        answer = ask()
        asking.clear()
        assert answer == expected, (after, answer)
    loop.close()
    """
    script(source, env={"PYTHONMALLOC": "debug"})


def test_another_function_in_place_of_the_sockets(aloop: asyncio.AbstractEventLoop) -> None:
    """Tests replace socket.getaddrinfo, before and after the address was asked for."""

    async def main() -> None:
        await aloop.getaddrinfo("127.0.0.1", 80)
        with mock.patch("socket.getaddrinfo", return_value=["mine"]) as function:
            assert await aloop.getaddrinfo("127.0.0.1", 80) == ["mine"]
            assert await aloop.getaddrinfo("127.0.0.1", 80) == ["mine"]
        assert function.call_count == 2
        await aloop.shutdown_default_executor()

    aloop.run_until_complete(main())


def test_wrong_arguments(aloop: asyncio.AbstractEventLoop) -> None:
    for arguments, options in (
        ((), {}),
        (("::1",), {}),
        (("::1", 1, 0), {}),
        (("::1", 1), {"x": 1}),
    ):
        with pytest.raises(TypeError, match="getaddrinfo"):
            aloop.getaddrinfo(*arguments, **options)


def test_never_awaited(aloop: asyncio.AbstractEventLoop) -> None:
    with pytest.warns(RuntimeWarning, match="getaddrinfo' was never awaited"):
        aloop.getaddrinfo("127.0.0.1", 80)
        gc.collect()


def test_a_task_of_its_own(aloop: asyncio.AbstractEventLoop) -> None:
    found = aloop.run_until_complete(aloop.create_task(aloop.getaddrinfo("::1", 80)))
    assert found == socket.getaddrinfo("::1", 80)
    aloop.run_until_complete(aloop.shutdown_default_executor())


def test_name_of_an_address(aloop: asyncio.AbstractEventLoop) -> None:
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

    async def main() -> Any:
        found = await aloop.getnameinfo(("127.0.0.1", 80), flags)
        await aloop.shutdown_default_executor()
        return found

    assert aloop.run_until_complete(main()) == ("127.0.0.1", "80")
