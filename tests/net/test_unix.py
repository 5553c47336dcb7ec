"""Unix sockets: their paths, and whose they are."""

import asyncio
import errno
import os
import pathlib
import socket
import sys
import tempfile

import pytest
from net_kit import Recorder, some_bytes

cleans_up = pytest.mark.skipif(sys.version_info < (3, 13), reason="of Python 3.13")


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "socket")


async def talk(net, path):
    """A client of ours and a server of ours."""
    client = net.remember(Recorder())
    await net.loop.create_unix_connection(lambda: client, path)
    client.transport.write(b"hello")
    return client


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path])
async def test_paths(net, path, kind):
    server_end = net.remember(Recorder())
    server = await net.loop.create_unix_server(lambda: server_end, kind(path))
    client = await talk(net, kind(path))
    await server_end.until(lambda: server_end.data == b"hello")
    assert client.transport.get_extra_info("peername") == path
    assert server_end.transport.get_extra_info("sockname") == path
    server.close()


@pytest.mark.parametrize("name", ["\0pyev\0inside", b"\0pyev bytes", "\0pyev-trailing\0"])
async def test_abstract_names(net, name):
    """Kept whole, the zeros too; nothing to clean up."""
    server_end = net.remember(Recorder())
    server = await net.loop.create_unix_server(lambda: server_end, name)
    whole = name if isinstance(name, bytes) else name.encode()
    assert server.sockets[0].getsockname() == whole
    client = await talk(net, name)
    await server_end.until(lambda: server_end.data == b"hello")
    assert client.transport.get_extra_info("peername") == whole
    server.close()


async def test_a_stale_path_is_replaced(net, path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    assert os.path.exists(path)
    server_end = net.remember(Recorder())
    server = await net.loop.create_unix_server(lambda: server_end, path)
    await talk(net, path)
    await server_end.called("data")
    server.close()


async def test_a_file_is_not_replaced(net, path):
    pathlib.Path(path).write_text("precious")
    with pytest.raises(OSError, match="is already in use") as caught:
        await net.loop.create_unix_server(Recorder, path)
    assert caught.value.errno == errno.EADDRINUSE
    assert pathlib.Path(path).read_text() == "precious"


async def test_no_directory(net, path):
    with pytest.raises(FileNotFoundError):
        await net.loop.create_unix_server(Recorder, os.path.join(path, "x"))
    with pytest.raises(FileNotFoundError):
        await net.loop.create_unix_connection(Recorder, path)


async def test_a_name_too_long(net):
    """The answer of the socket module, and nothing cut off to make another name."""
    name = "/tmp/" + "x" * 200
    for make in (net.loop.create_unix_server, net.loop.create_unix_connection):
        with pytest.raises(OSError, match="AF_UNIX path too long"):
            await make(Recorder, name)
    assert not [found for found in os.listdir("/tmp") if found.startswith("xxxxxxxx")]


async def test_refused(net, path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        with pytest.raises(ConnectionRefusedError):
            await net.loop.create_unix_connection(Recorder, path)


@cleans_up
async def test_the_path_goes_with_the_server(net, path):
    server = await net.loop.create_unix_server(Recorder, path)
    assert os.path.exists(path)
    server.close()
    await net.turn()
    assert not os.path.exists(path)


@cleans_up
async def test_the_path_stays_if_it_shall(net, path):
    server = await net.loop.create_unix_server(Recorder, path, cleanup_socket=False)
    server.close()
    await net.turn()
    assert os.path.exists(path)


async def test_the_path_is_somebody_elses_now(net, path):
    """Another socket was bound there meanwhile: it is not unlinked."""
    first = await net.loop.create_unix_server(Recorder, path)
    second_end = net.remember(Recorder())
    second = await net.loop.create_unix_server(lambda: second_end, path)
    first.close()
    await net.turn()
    assert os.path.exists(path)
    await talk(net, path)
    await second_end.called("data")
    second.close()


async def test_the_path_is_a_file_now(net, path):
    server = await net.loop.create_unix_server(Recorder, path)
    os.unlink(path)
    pathlib.Path(path).write_text("precious")
    server.close()
    await net.turn()
    assert pathlib.Path(path).read_text() == "precious"


async def test_the_path_is_gone(net, path):
    server = await net.loop.create_unix_server(Recorder, path)
    os.unlink(path)
    server.close()
    await net.turn()


async def test_socket_passed_in(net, path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    server_end = net.remember(Recorder())
    server = await net.loop.create_unix_server(lambda: server_end, sock=sock)
    await talk(net, path)
    await server_end.called("data")
    server.close()
    await net.turn()
    assert sock.fileno() == -1


async def test_wrong_arguments(net, path):
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        for make in (net.loop.create_unix_server, net.loop.create_unix_connection):
            for error, args, kwargs in [
                (ValueError, (), {}),
                (ValueError, (path,), {"sock": unix}),
                (ValueError, (), {"sock": tcp}),
                (ValueError, (path,), {"ssl_handshake_timeout": 1}),
                (ValueError, (path,), {"ssl_shutdown_timeout": 1}),
            ]:
                with pytest.raises(error):
                    await make(Recorder, *args, **kwargs)
        with pytest.raises(ValueError, match="server_hostname"):
            await net.loop.create_unix_connection(Recorder, path, server_hostname="x")
        with pytest.raises(TypeError):
            await net.loop.create_unix_server(Recorder, path, ssl=True)
    assert not os.path.exists(path)


async def test_pair_of_sockets(net):
    a, b = socket.socketpair()
    first, second = net.remember(Recorder()), net.remember(Recorder())
    await net.loop.create_unix_connection(lambda: first, sock=a)
    await net.loop.create_connection(lambda: second, sock=b)
    first.transport.write(some_bytes(300_000))
    second.transport.write(some_bytes(300_000, 1))
    await first.until(lambda: len(first.data) == 300_000)
    await second.until(lambda: len(second.data) == 300_000)
    first.transport.close()
    await second.lost()
    assert first.data == some_bytes(300_000, 1)
    assert second.data == some_bytes(300_000)


async def test_bare_hang_up_while_half_closed(net):
    """A unix socket's peer goes without a word: no spin, and writing tells."""

    class HalfClosing(Recorder):
        keep_open = True

    protocol, peer = await net.connect("unix", HalfClosing())
    peer.shutdown()
    await protocol.called("eof")
    peer.close()
    await net.calm()
    protocol.transport.write(b"x")
    assert isinstance(await protocol.lost(), (BrokenPipeError, ConnectionResetError))


async def test_descriptors_sent_along_do_no_harm(net):
    """What the transport did not ask for is not left open."""
    protocol, peer = await net.connect("unix")
    with open("/dev/null") as file:
        await asyncio.sleep(0)
        socket.send_fds(peer.sock, [b"x"], [file.fileno()])
    await protocol.called("data")
    assert protocol.data == b"x"
