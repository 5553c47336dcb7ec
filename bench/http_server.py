"""A server that says hello: `http_server.py SERVER LOOP` prints its port and serves for ever."""

import asyncio
import socket
import sys
from typing import Any

import loops


def tell_port(listening: socket.socket) -> None:
    """Only when everything is imported: what starts a server is not what serves."""
    print(listening.getsockname()[1], flush=True)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


async def serve_uvicorn(listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        hello, http="httptools", lifespan="off", log_level="warning", access_log=False
    )
    config.load()
    tell_port(listening)
    await uvicorn.Server(config).serve([listening])


async def serve_aiohttp(listening: socket.socket) -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="Hello, world!")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    tell_port(listening)
    await asyncio.Event().wait()


SERVERS = {"uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}


def main() -> None:
    server, name = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    with asyncio.Runner(loop_factory=loops.factory(name)) as runner:
        runner.run(SERVERS[server](listening))


if __name__ == "__main__":
    main()
