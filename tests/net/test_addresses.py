"""Addresses that are none: the socket module's answer, and never another address."""

import asyncio
import socket

import pytest
from net_kit import Recorder

BAD_PORTS = [65536, -1, 10**30, "x", b"x", object()]


def answer_of_socket(host, port):
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize("port", BAD_PORTS, ids=lambda port: type(port).__name__ + str(port)[:6])
async def test_ports(net, port):
    """No port is cut down to sixteen bits."""
    for host in ("127.0.0.1", "::1"):
        with pytest.raises((OSError, OverflowError, TypeError, ValueError)):
            await net.loop.create_connection(Recorder, host, port)
        with pytest.raises((OSError, OverflowError, TypeError, ValueError)):
            await net.loop.create_server(Recorder, host, port)


@pytest.mark.parametrize("port", [65536, -1])
async def test_ports_of_sockets(net, port):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OverflowError):
            await net.loop.sock_connect(sock, ("127.0.0.1", port))
        with pytest.raises(OverflowError):
            sock.connect(("127.0.0.1", port))


@pytest.mark.parametrize(
    "host",
    ["x" * 300, "a..b", "256.256.256.256", "-", " "],
    ids=["long", "dots", "256", "dash", "space"],
)
async def test_hosts(net, host):
    """What the socket module raises."""
    expected = answer_of_socket(host, 1)
    assert expected is not None
    with pytest.raises(expected):
        await net.loop.getaddrinfo(host, 1, type=socket.SOCK_STREAM)
    with pytest.raises(expected):
        await net.loop.create_connection(Recorder, host, 1)
    with pytest.raises(expected):
        await net.loop.create_server(Recorder, host, 0)
    with pytest.raises((expected, OSError)):
        await net.loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, 1))


@pytest.mark.parametrize("host", ["nul\0inside", "127.0.0.1\0.example", "::1\0", "\0"])
async def test_hosts_with_a_zero_byte(net, host):
    """Nothing is cut off to make an address of it."""
    listener = net.listener()
    port = listener.getsockname()[1]
    with pytest.raises((OSError, ValueError)):
        await net.loop.create_connection(Recorder, host, port)
    with pytest.raises((OSError, ValueError)):
        await net.loop.create_server(Recorder, host, 0)
    with pytest.raises((OSError, ValueError)):
        await net.loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, 1))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.1", "0x7f.1", "localhost", None, ""])
async def test_the_same_as_the_socket_module(net, host):
    """Numbers in every spelling, and names."""
    for port in (80, "80", 0, None):
        try:
            expected = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            with pytest.raises(type(error)):
                await net.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        else:
            assert await net.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM) == expected


async def test_bytes_for_a_host(net):
    expected = socket.getaddrinfo(b"127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert await net.loop.getaddrinfo(b"127.0.0.1", 80, type=socket.SOCK_STREAM) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "127.10.100.9", "127.255.255.254"])
async def test_what_the_kernel_tells(net, host):
    """Numbers of one, two and three digits."""
    accepted = net.remember(Recorder())
    server = await net.loop.create_server(lambda: accepted, host, 0)
    address = server.sockets[0].getsockname()
    client = net.remember(Recorder())
    await net.loop.create_connection(lambda: client, *address)
    await accepted.called("made")
    assert client.transport.get_extra_info("peername") == address
    assert accepted.transport.get_extra_info("sockname") == address
    server.close()


@pytest.fixture
def ipv6():
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")


async def test_ipv6(net, ipv6):
    """Addresses are tuples of four, on both ends."""
    accepted = net.remember(Recorder())
    server = await net.loop.create_server(lambda: accepted, "::1", 0)
    address = server.sockets[0].getsockname()
    client = net.remember(Recorder())
    await net.loop.create_connection(lambda: client, *address[:2])
    await accepted.called("made")
    assert client.transport.get_extra_info("peername") == address
    assert accepted.transport.get_extra_info("peername") == client.transport.get_extra_info(
        "sockname"
    )
    assert len(address) == 4
    server.close()


@pytest.mark.parametrize("host", ["::1%lo", "fe80::1%lo", "fe80::1%nosuch", "fe80::1%", "::1%99"])
async def test_scopes(net, ipv6, host):
    """The zone is kept, or refused: never dropped."""
    try:
        expected = socket.getaddrinfo(host, 9, type=socket.SOCK_STREAM)
    except OSError as error:
        with pytest.raises(type(error)):
            await net.loop.getaddrinfo(host, 9, type=socket.SOCK_STREAM)
        with pytest.raises(type(error)):
            await net.loop.create_connection(Recorder, host, 9)
        return
    assert await net.loop.getaddrinfo(host, 9, type=socket.SOCK_STREAM) == expected
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(0.2)
        with pytest.raises(OSError, match=r".*") as theirs:
            sock.connect(expected[0][4])
    with pytest.raises((OSError, asyncio.TimeoutError)) as ours:
        await asyncio.wait_for(net.loop.create_connection(Recorder, host, 9), 0.2)
    if isinstance(ours.value, OSError) and not isinstance(ours.value, TimeoutError):
        assert ours.value.errno == theirs.value.errno


@pytest.mark.parametrize(
    "address", [("127.0.0.1",), ("127.0.0.1", 1, 2, 3, 4), "127.0.0.1", 7, None, (1, 2), ()]
)
async def test_tuples(net, address):
    """sock_connect: the exception that a blocking socket raises."""
    with socket.socket() as sock, pytest.raises(Exception, match=r".*") as expected:
        sock.connect(address)
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises((expected.type, TypeError, ValueError)):
            await net.loop.sock_connect(sock, address)


async def test_names_of_addresses(net):
    assert await net.loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST) == (
        socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
    )
    for address in (("127.0.0.1", -1), ("nul\0", 1), ("127.0.0.1",)):
        with pytest.raises((OSError, OverflowError, TypeError, ValueError)) as expected:
            socket.getnameinfo(address, 0)
        with pytest.raises(expected.type):
            await net.loop.getnameinfo(address, 0)


async def test_no_host(net):
    with pytest.raises(OSError, match=r".*"):
        await net.loop.create_connection(Recorder, "name.invalid", 80)
