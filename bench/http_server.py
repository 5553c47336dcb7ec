"""Says hello: `http_server.py SERVER LOOP [PORT]` prints its port and serves for ever.
A port that is given is shared with other processes; 0 is a new one to share.

The port comes when everything is imported: what starts a server is not what serves.
"""

import asyncio
import socket
import sys
from typing import Any

import loops


async def hello(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


async def serve_uvicorn(listening: socket.socket, port: int) -> None:
    import uvicorn

    config = uvicorn.Config(
        hello, http="httptools", lifespan="off", log_level="warning", access_log=False
    )
    config.load()
    print(port, flush=True)
    await uvicorn.Server(config).serve([listening])


async def serve_aiohttp(listening: socket.socket, port: int) -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="Hello, world!")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    print(port, flush=True)
    await asyncio.Event().wait()


SERVERS = {"uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}


def main() -> None:
    server, name, *shared = sys.argv[1:]
    wanted = int(shared[0]) if shared else 0
    address = ("127.0.0.1", wanted)
    listening = socket.create_server(address, backlog=128, reuse_port=bool(shared))
    port = listening.getsockname()[1]  # a loop may take the socket over
    with asyncio.Runner(loop_factory=loops.factory(name)) as runner:
        runner.run(SERVERS[server](listening, port))


if __name__ == "__main__":
    main()
