"""TLS: the standard library's protocol, on our transports."""

import asyncio
import ssl

import pytest
import trustme


@pytest.fixture(scope="module")
def contexts():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


class Ends(asyncio.Protocol):
    def __init__(self, name, told, lost=None):
        self.name, self.told, self.lost = name, told, lost

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.told.append((self.name, data))
        if self.name == "server":
            self.transport.write(b"bye")
            self.transport.close()

    def eof_received(self):
        self.told.append((self.name, "eof"))

    def connection_lost(self, exc):
        self.told.append((self.name, "lost", exc))
        if self.lost:
            self.lost.set_result(None)


def test_both_ends_are_told_in_asyncios_turns(aloop, contexts):
    """The server's end of a close that it began comes before whoever waited for the client's."""
    told = []

    async def start():
        server = await aloop.create_server(
            lambda: Ends("server", told), "127.0.0.1", 0, ssl=contexts[0]
        )
        lost = aloop.create_future()
        address = server.sockets[0].getsockname()
        transport, _ = await aloop.create_connection(
            lambda: Ends("client", told, lost),
            *address,
            ssl=contexts[1],
            server_hostname="localhost",
        )
        transport.write(b"close")
        return server, lost

    server, lost = aloop.run_until_complete(start())
    aloop.run_until_complete(lost)
    seen = list(told)
    server.close()
    aloop.run_until_complete(asyncio.sleep(0))
    assert seen == [
        ("server", b"close"),
        ("client", b"bye"),
        ("client", "eof"),
        ("server", "eof"),
        ("client", "lost", None),
        ("server", "lost", None),
    ]
