"""asyncio's functions for streams, whose readers and writers are native on any loop."""

import asyncio
from asyncio import StreamReaderProtocol, events, streams
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pyev import _core, _eventloop  # noqa: F401  (it prepares what is taken here)

__all__ = [
    "StreamReader",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
]

if TYPE_CHECKING:

    class StreamReader(asyncio.StreamReader):
        """asyncio's StreamReader; what reads in it is native."""

    class StreamWriter(asyncio.StreamWriter):
        """asyncio's StreamWriter; its write(), writelines() and drain() are native."""

else:
    StreamReader, StreamWriter = _core.stream_classes()

_Connected = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]
_Connect = Callable[[Callable[[], StreamReaderProtocol]], Awaitable[tuple[Any, Any]]]

_LIMIT = streams._DEFAULT_LIMIT  # type: ignore[attr-defined]


async def open_connection(
    host: str | None = None, port: int | str | None = None, *, limit: int = _LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a host and port, and return a native reader and writer.

    limit, in bytes: of a line, and half of what the reader's buffer holds. The other arguments are
    those of loop.create_connection(), which see for what it raises. asyncio: open_connection.
    """
    loop: Any = events.get_running_loop()
    return await _open(lambda factory: loop.create_connection(factory, host, port, **kwds), limit)


async def open_unix_connection(
    path: Any = None, *, limit: int = _LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a unix socket, and return a native reader and writer.

    The arguments are those of open_connection() and of loop.create_unix_connection(). asyncio:
    open_unix_connection.
    """
    loop = events.get_running_loop()
    return await _open(lambda factory: loop.create_unix_connection(factory, path, **kwds), limit)


async def start_server(
    client_connected_cb: _Connected | None,
    host: Any = None,
    port: int | str | None = None,
    *,
    limit: int = _LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Serve at a host and port; client_connected_cb(reader, writer) gets each connection.

    It is a function or a coroutine function; the reader and the writer are native. The other
    arguments are those of open_connection() and of loop.create_server(), whose server is returned.
    asyncio: start_server.
    """
    loop: Any = events.get_running_loop()
    factory = _factory(client_connected_cb, limit)
    server: asyncio.Server = await loop.create_server(factory, host, port, **kwds)
    return server


async def start_unix_server(
    client_connected_cb: _Connected | None, path: Any = None, *, limit: int = _LIMIT, **kwds: Any
) -> asyncio.Server:
    """Serve at a unix socket, as start_server() does at a port.

    The arguments are those of start_server() and of loop.create_unix_server(). asyncio:
    start_unix_server.
    """
    loop = events.get_running_loop()
    return await loop.create_unix_server(_factory(client_connected_cb, limit), path, **kwds)


async def _open(connect: _Connect, limit: int) -> tuple[StreamReader, StreamWriter]:
    loop = events.get_running_loop()
    reader = StreamReader(limit=limit, loop=loop)
    protocol = StreamReaderProtocol(reader, loop=loop)
    transport, _ = await connect(lambda: protocol)
    return reader, StreamWriter(transport, protocol, reader, loop)


def _factory(connected: _Connected | None, limit: int) -> Callable[[], StreamReaderProtocol]:
    loop = events.get_running_loop()

    def welcome(reader: Any, writer: Any) -> Any:
        writer.__class__ = StreamWriter  # the protocol has made one of asyncio's
        return connected(reader, writer) if connected is not None else None

    def factory() -> StreamReaderProtocol:
        reader = StreamReader(limit=limit, loop=loop)
        callback = welcome if connected is not None else None
        return StreamReaderProtocol(reader, callback, loop=loop)

    return factory
