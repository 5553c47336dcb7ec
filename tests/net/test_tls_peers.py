"""Peers that do what Python's ssl cannot: renegotiate in TLS 1.2, change their keys in 1.3.

They are OpenSSL's own programs, told by single letters what to do.
"""

import asyncio
import contextlib
import shutil
import socket
import threading

import pytest
from net_kit import Recorder
from tls_kit import TLS_1_2, TLS_1_3, authority, certificate, client_context, server_context

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="OpenSSL's program is not installed"
)


@pytest.fixture
def program(net):
    """Starts openssl with these arguments; what it says goes nowhere."""

    @contextlib.asynccontextmanager
    async def start(*arguments):
        process = await asyncio.create_subprocess_exec(
            "openssl",
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
            # asyncio of some Pythons waits in a thread, which is about to end.
            for thread in threading.enumerate():
                if "waitpid" in thread.name:
                    thread.join()

    return start


async def read(process):
    """What it says next, with the end of what it said before."""
    piece = await process.stdout.read(1 << 16)
    assert piece, "the program has gone"
    process.said = (getattr(process, "said", b"") + piece)[-(1 << 16) :]
    return process.said


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@pytest.mark.parametrize(
    ("version", "letter", "word"),
    [
        (TLS_1_2, b"R", b"RENEGOTIATING"),
        (TLS_1_3, b"k", b"KEYUPDATE"),
        (TLS_1_3, b"K", b"KEYUPDATE"),
    ],
    ids=["renegotiation", "key update", "key update of both"],
)
async def test_a_client_that_wants_other_keys(tls, net, program, version, letter, word):
    """In the middle of what goes both ways. Python's contexts refuse to renegotiate."""

    class Echo(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(data.upper())

    served = Echo()
    flag = "-tls1_2" if version == TLS_1_2 else "-tls1_3"
    async with tls.serving(lambda: served, server_context(version)) as (host, port):
        async with program("s_client", "-connect", f"{host}:{port}", flag) as client:
            await served.called("made")
            client.stdin.write(b"before\n")
            while b"BEFORE" not in await read(client):
                pass
            client.stdin.write(letter + b"\n")
            while word not in await read(client):
                pass
            client.stdin.write(b"after\n")
            await served.until(lambda: b"after\n" in served.data or "lost" in served.calls)
            if version == TLS_1_3:
                while b"AFTER" not in await read(client):
                    pass
        await served.lost()


@pytest.mark.parametrize(
    ("version", "letter"),
    [(TLS_1_2, b"r"), (TLS_1_2, b"R"), (TLS_1_3, b"k"), (TLS_1_3, b"K")],
    ids=["renegotiation", "with a certificate", "key update", "key update of both"],
)
async def test_a_server_that_wants_other_keys(tls, net, program, tmp_path, version, letter):
    leaf = certificate("localhost", "ours")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "certificate.pem"))
    authority("ours").cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    port = free_port()
    flag = "-tls1_2" if version == TLS_1_2 else "-tls1_3"
    arguments = ["s_server", "-accept", f"127.0.0.1:{port}", flag, "-cert"]
    arguments += [tmp_path / "certificate.pem", "-key", tmp_path / "certificate.pem"]
    async with program(*arguments) as server:
        while b"ACCEPT" not in await server.stdout.readline():
            pass
        client = await tls.call(Recorder(), ("127.0.0.1", port), client_context(version))
        client.transport.write(b"before\n")
        while b"before" not in await server.stdout.readline():
            pass
        server.stdin.write(b"to you\n")
        await client.until(lambda: b"to you\n" in client.data)
        server.stdin.write(letter + b"\n")
        await server.stdin.drain()
        # Meanwhile and afterwards, both ways.
        client.transport.write(b"x" * 100_000 + b"\nwhile\n")
        while b"while" not in await read(server):
            pass
        # A line that s_server reads together with the command is lost on it.
        while b"after\n" not in client.data:
            server.stdin.write(b"after\n")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.until(lambda: b"after\n" in client.data), 1)
        client.transport.write(b"the end\n")
        while b"the end" not in await read(server):
            pass
        client.transport.abort()
        await client.lost()
