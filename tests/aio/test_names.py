"""getaddrinfo and getnameinfo."""

import asyncio
import socket
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
    ],
)
def test_addresses(
    aloop: asyncio.AbstractEventLoop, host: Any, port: Any, options: dict[str, Any]
) -> None:
    async def main() -> Any:
        found = await aloop.getaddrinfo(host, port, **options)
        await aloop.shutdown_default_executor()
        return found

    assert aloop.run_until_complete(main()) == socket.getaddrinfo(host, port, **options)


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


def test_name_of_an_address(aloop: asyncio.AbstractEventLoop) -> None:
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

    async def main() -> Any:
        found = await aloop.getnameinfo(("127.0.0.1", 80), flags)
        await aloop.shutdown_default_executor()
        return found

    assert aloop.run_until_complete(main()) == ("127.0.0.1", "80")
