"""Packages that choose their event loop: each is told to take ours, in the way its users would, and
asked which one it has."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

OURS = "pyev._eventloop.EventLoop"

# Served over HTTP: which event loop runs it.
ASGI = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
        return
    loop = type(asyncio.get_running_loop())
    body = f"{loop.__module__}.{loop.__qualname__}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
UVICORN_WORKER = """
from uvicorn_worker import UvicornWorker

class Worker(UvicornWorker):
    CONFIG_KWARGS = {"loop": "pyev:new_event_loop"}
"""
AIOHTTP = """
import asyncio
from aiohttp import web

async def which(request):
    loop = type(asyncio.get_running_loop())
    return web.Response(text=f"{loop.__module__}.{loop.__qualname__}")

app = web.Application()
app.router.add_get("/", which)
"""


@pytest.fixture
def program(tmp_path):
    """A file of a program in a folder of its own, where it is run."""

    def write(name, source):
        (tmp_path / name).write_text(textwrap.dedent(source))

    write.folder = tmp_path
    return write


@contextlib.contextmanager
def server_at(folder, fd, address, *command):
    """A server that is given the socket FD, and ends by SIGTERM; yields what asks it."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(folder / "log", "w+"))
        server = subprocess.Popen(
            [sys.executable, *(part.replace("FD", str(fd)) for part in command)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[fd],
        )
        stack.callback(server.wait)
        stack.callback(server.kill)

        def ask():
            with contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
                connection.request("GET", "/", headers={"Connection": "close"})
                return connection.getresponse().read().decode()

        yield ask
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, -signal.SIGTERM)
        log.seek(0)
        assert "Traceback" not in log.read()


def loop_of_server(folder, *command):
    """The answer of a server that was given the listening socket FD."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        server_at(folder, listening.fileno(), listening.getsockname(), *command) as ask,
    ):
        return ask()


# Workers: processes that share a port.

WORKER = ASGI.replace('f"{loop.__module__}', 'f"{os.getpid()} {loop.__module__}').replace(
    "import asyncio", "import asyncio, os"
)


def loops_of_two_workers(ask):
    """Whoever answers first is stopped, so that it is another one who answers next."""
    first, loop = ask().split()
    os.kill(int(first), signal.SIGSTOP)
    try:
        second, other_loop = ask().split()
    finally:
        os.kill(int(first), signal.SIGCONT)
    assert first != second
    return {loop, other_loop}


def loops_by_chance(ask):
    """Each has a socket of its own: the kernel deals out whom one asks."""
    loops = {}
    while len(loops) < 2:
        pid, loop = ask().split()
        loops[pid] = loop
    return set(loops.values())


def patient(ask):
    """For a server that makes its socket itself: refused until it is there."""

    def again():
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                return ask()

    return again


def test_uvicorns_workers(program):
    pytest.importorskip("uvicorn")
    program("served.py", WORKER)
    command = "-m uvicorn --workers 2 --fd FD --loop pyev:new_event_loop served:app"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        at = program.folder, listening.fileno(), listening.getsockname()
        with server_at(*at, *command.split()) as ask:
            assert loops_of_two_workers(ask) == {OURS}


def test_gunicorns_workers(program):
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn_worker")
    program("served.py", WORKER)
    program("worker.py", UVICORN_WORKER)
    # Its workers open the port each by itself, as it may be shared.
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))  # and never listens: it only keeps the number
        host, port = reserved.getsockname()
        command = f"-m gunicorn --bind {host}:{port} --reuse-port --workers 2 --no-control-socket"
        command += " -k worker.Worker served:app"
        with server_at(program.folder, reserved.fileno(), (host, port), *command.split()) as ask:
            assert loops_by_chance(patient(ask)) == {OURS}


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="ports cannot be shared here")
def test_processes_that_share_a_port(program):
    """Each listens by itself, with `reuse_port`: the kernel shares the connections out."""
    program(
        "main.py",
        """
        import asyncio, os, sys
        import pyev

        async def answer(reader, writer):
            await reader.readuntil(b"\\r\\n\\r\\n")
            loop = type(asyncio.get_running_loop())
            body = f"{os.getpid()} {loop.__module__}.{loop.__qualname__}"
            writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body.encode())
            writer.close()

        async def main():
            port = int(sys.argv[1])
            server = await asyncio.start_server(answer, "127.0.0.1", port, reuse_port=True)
            print(server.sockets[0].getsockname()[1], flush=True)
            await server.serve_forever()

        pyev.run(main())
        """,
    )
    with contextlib.ExitStack() as stack:
        port, pids = "0", set()
        for _ in range(2):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "main.py", port], cwd=program.folder, stdout=subprocess.PIPE
                )
            )
            stack.callback(process.kill)
            pids.add(process.pid)
            port = process.stdout.readline().decode().strip()
        found = {}
        while set(found) != pids:  # which of them the kernel chooses depends on the port
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port))) as client:
                client.request("GET", "/")
                pid, loop = client.getresponse().read().decode().split()
                found[int(pid)] = loop
        assert set(found.values()) == {OURS}


def test_uvicorn(program):
    pytest.importorskip("uvicorn")
    program("served.py", ASGI)
    command = "-m uvicorn --fd FD --loop pyev:new_event_loop served:app"
    assert loop_of_server(program.folder, *command.split()) == OURS


def test_uvicorn_from_python(program):
    pytest.importorskip("uvicorn")
    program("served.py", ASGI)
    source = 'import uvicorn; uvicorn.run("served:app", fd=FD, loop="pyev:new_event_loop")'
    assert loop_of_server(program.folder, "-c", source) == OURS


GUNICORN = "-m gunicorn --bind fd://FD --no-control-socket"


def test_gunicorn_with_uvicorns_worker(program):
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn_worker")
    program("served.py", ASGI)
    program("worker.py", UVICORN_WORKER)
    command = f"{GUNICORN} -k worker.Worker served:app"
    assert loop_of_server(program.folder, *command.split()) == OURS


INSTALL = "import pyev\npyev.install()\n"


def test_gunicorn_with_its_own_worker(program):
    gunicorn = pytest.importorskip("gunicorn")
    if gunicorn.version_info < (24,):
        pytest.skip("no worker for ASGI")
    program("served.py", ASGI)
    program("gunicorn.conf.py", INSTALL)
    command = f"{GUNICORN} -k asgi --asgi-loop asyncio served:app"
    assert loop_of_server(program.folder, *command.split()) == OURS


def test_gunicorn_with_aiohttps_worker(program):
    pytest.importorskip("aiohttp")
    pytest.importorskip("gunicorn")
    program("served.py", AIOHTTP)
    program("gunicorn.conf.py", INSTALL)
    command = f"{GUNICORN} -k aiohttp.GunicornWebWorker served:app"
    assert loop_of_server(program.folder, *command.split()) == OURS


def test_aiohttp(program):
    pytest.importorskip("aiohttp")
    program("served.py", AIOHTTP)
    program(
        "main.py",
        """
        import socket, sys
        import pyev
        from aiohttp import web
        from served import app

        with socket.socket(fileno=int(sys.argv[1])) as listening:
            web.run_app(app, sock=listening, loop=pyev.new_event_loop())
        """,
    )
    assert loop_of_server(program.folder, "main.py", "FD") == OURS


def test_hypercorn(program):
    pytest.importorskip("hypercorn")
    program("served.py", INSTALL + ASGI)
    command = "-m hypercorn --bind fd://FD served:app"
    assert loop_of_server(program.folder, *command.split()) == OURS


def test_hypercorn_from_python(program):
    pytest.importorskip("hypercorn")
    program("served.py", ASGI)
    program(
        "main.py",
        """
        import asyncio, signal, sys
        import pyev
        from hypercorn.asyncio import serve
        from hypercorn.config import Config
        from served import app

        config = Config()
        config.bind = [f"fd://{sys.argv[1]}"]

        async def main():
            over = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
            await serve(app, config, shutdown_trigger=over.wait)

        pyev.run(main())
        """,
    )
    assert loop_of_server(program.folder, "main.py", "FD") == OURS


def test_anyio(script):
    pytest.importorskip("anyio")
    script("""
    import anyio, asyncio, pyev

    async def main(argument):
        assert type(asyncio.get_running_loop()) is pyev.EventLoop
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        return await anyio.to_thread.run_sync(int, argument)

    options = {"loop_factory": pyev.new_event_loop}
    assert anyio.run(main, "42", backend_options=options) == 42
    with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
        assert portal.call(main, "42") == 42
    """)


# Plugins of pytest, in a pytest of their own.


@pytest.fixture
def passes(program):
    def run(count, *arguments):
        ini = "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
        program("pytest.ini", ini)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=program.folder,
            env=os.environ | {"PYTEST_ADDOPTS": ""},  # those of the run that this is part of
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert f"\n{count} passed in " in done.stdout, done.stdout + done.stderr

    return run


def test_anyios_plugin(program, passes):
    pytest.importorskip("anyio")
    program(
        "conftest.py",
        """
        import pytest
        import pyev

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"loop_factory": pyev.new_event_loop}
        """,
    )
    program(
        "test_it.py",
        """
        import asyncio
        import pytest
        import pyev

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        async def loop():
            yield asyncio.get_running_loop()

        async def test_it(loop):
            assert type(loop) is pyev.EventLoop
            assert asyncio.get_running_loop() is loop
        """,
    )
    passes(1)


PYTEST_ASYNCIO = """
    import asyncio
    import pytest
    import pytest_asyncio
    import pyev

    @pytest_asyncio.fixture
    async def loop():
        yield asyncio.get_running_loop()

    @pytest.mark.asyncio
    async def test_it(loop):
        assert type(loop) is pyev.EventLoop
        assert asyncio.get_running_loop() is loop
"""


def test_pytest_asyncios_factories(program, passes):
    pytest.importorskip("pytest_asyncio")
    program(
        "conftest.py",
        """
        import pyev

        def pytest_asyncio_loop_factories(config, item):
            return {"pyev": pyev.new_event_loop}
        """,
    )
    program("test_it.py", PYTEST_ASYNCIO)
    passes(1)


def test_pytest_asyncios_policy(program, passes):
    """As its versions before 1.4 had it, and later ones still take, with a warning."""
    pytest.importorskip("pytest_asyncio")
    program(
        "conftest.py",
        """
        import pytest
        import pyev

        @pytest.fixture(scope="session")
        def event_loop_policy():
            return pyev.EventLoopPolicy()
        """,
    )
    program("test_it.py", PYTEST_ASYNCIO)
    passes(1, "-W", 'ignore:Overriding the "event_loop_policy"')


@pytest.mark.skipif(sys.version_info < (3, 13), reason="loop_factory is of Python 3.13")
def test_unittest(script):
    script("""
    import asyncio, unittest
    import pyev

    class Tests(unittest.IsolatedAsyncioTestCase):
        loop_factory = staticmethod(pyev.new_event_loop)

        async def test_it(self):
            self.assertIs(type(asyncio.get_running_loop()), pyev.EventLoop)

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Tests)
    result = suite.run(unittest.TestResult())
    assert result.testsRun == 1 and result.wasSuccessful(), result
    """)
