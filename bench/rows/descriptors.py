"""Readers, and the loop's own ways to read and write sockets."""

import asyncio
import os
import socket
from itertools import repeat

from rows import Stage, Work, row

PAIRS = 100


def pairs() -> list[tuple[socket.socket, socket.socket]]:
    found = [socket.socketpair() for _ in range(PAIRS)]
    for pair in found:
        for end in pair:
            end.setblocking(False)
    return found


@row("add_reader, 100 pairs, 1 token")
async def reader_token(stage: Stage) -> Work:
    loop = stage.loop
    sockets = pairs()
    read, write = os.read, os.write
    left = 0
    done = loop.create_future()

    def ready(number: int, writer: int) -> None:
        nonlocal left
        read(number, 1)
        left -= 1
        if left:
            write(writer, b"e")
        else:
            done.set_result(None)

    for (reader, _), (_, writer) in zip(sockets, sockets[1:] + sockets[:1], strict=True):
        loop.add_reader(reader.fileno(), ready, reader.fileno(), writer.fileno())

    async def run(turns: int) -> None:
        nonlocal left, done
        left, done = turns, loop.create_future()
        sockets[0][1].send(b"e")
        await done

    return run


@row("add_reader, 100 always ready", batch=PAIRS)
async def reader_ready(stage: Stage) -> Work:
    loop = stage.loop
    sockets = pairs()
    for _, writer in sockets:
        writer.send(b"e")  # never read

    async def run(turns: int) -> None:
        done = loop.create_future()
        left = turns * PAIRS

        def ready() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        for reader, _ in sockets:
            loop.add_reader(reader.fileno(), ready)
        await done
        for reader, _ in sockets:
            loop.remove_reader(reader.fileno())

    return run


@row("add_reader, remove_reader", batch=PAIRS)
async def reader_add_remove(stage: Stage) -> Work:
    loop = stage.loop
    sockets = pairs()
    number = sockets[0][0].fileno()

    def ready() -> None:
        raise AssertionError("nobody wrote")

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            for _ in repeat(None, PAIRS):
                loop.add_reader(number, ready)
                loop.remove_reader(number)
            await asyncio.sleep(0)
        assert sockets

    return run


@row("sock_recv, sock_sendall ping-pong")
async def sock_ping_pong(stage: Stage) -> Work:
    loop = stage.loop
    (ours, theirs), *_ = pairs()
    message = b"x" * 64

    async def echo() -> None:
        while data := await loop.sock_recv(theirs, 1024):
            await loop.sock_sendall(theirs, data)

    async def run(turns: int) -> None:
        task = asyncio.create_task(echo())
        for _ in repeat(None, turns):
            await loop.sock_sendall(ours, message)
            assert len(await loop.sock_recv(ours, 1024)) == 64
        task.cancel()
        await asyncio.wait([task])

    return run
