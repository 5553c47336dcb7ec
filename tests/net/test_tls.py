"""TLS with both ends on the loop, and what is done with its SSLObject."""

import asyncio
import ssl

import pytest
from net_kit import Recorder
from tls_kit import TLS_1_3, authority, certificate, client_context, server_context


@pytest.fixture
def contexts():
    return server_context(), client_context()


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


async def connect(net, contexts, **options):
    """A server's protocol and a client's, connected."""
    protocols = [net.remember(Recorder()), net.remember(Recorder())]
    server = await net.loop.create_server(
        lambda: protocols[0], "127.0.0.1", 0, ssl=contexts[0], **options
    )
    await net.loop.create_connection(
        lambda: protocols[1],
        *server.sockets[0].getsockname(),
        ssl=contexts[1],
        server_hostname="localhost",
    )
    await protocols[0].called("made")
    server.close()
    return protocols


async def test_a_certificate_that_is_asked_for_late(net):
    """TLS 1.3 may ask at any time; what the SSLObject wants to say goes with the next bytes."""
    contexts = server_context(TLS_1_3), client_context(TLS_1_3)
    contexts[0].verify_mode = ssl.CERT_REQUIRED
    authority("ours").configure_trust(contexts[0])
    certificate("client", "ours").configure_cert(contexts[1])
    for context in contexts:
        context.post_handshake_auth = True
    server, client = await connect(net, contexts)
    tls = server.transport.get_extra_info("ssl_object")
    assert not tls.getpeercert()
    tls.verify_client_post_handshake()
    server.transport.write(b"who are you")
    await client.called("data")
    client.transport.write(b"that is me")
    await server.called("data")
    assert ("DNS", "client") in tls.getpeercert()["subjectAltName"]


async def test_the_ssl_objects_own_words(net, contexts):
    """What it is made to say by its own methods goes out with the next bytes."""
    server, client = await connect(net, contexts)
    client.transport.get_extra_info("ssl_object").write(b"own ")
    client.transport.write(b"words")
    await server.until(lambda: len(server.data) == 9)
    assert server.data == b"own words"
