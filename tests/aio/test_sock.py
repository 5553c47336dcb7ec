"""sock_*: coroutines for sockets that do not block."""

import asyncio
import collections.abc
import contextlib
import errno
import gc
import os
import re
import socket
import ssl

import pytest

# Each operation, on one socket, with arguments that would do.
OPERATIONS = {
    "sock_recv": (1,),
    "sock_recv_into": (bytearray(1),),
    "sock_recvfrom": (1,),
    "sock_recvfrom_into": (bytearray(1),),
    "sock_sendall": (b"x",),
    "sock_sendto": (b"x", ("127.0.0.1", 9)),
    "sock_connect": (("127.0.0.1", 9),),
    "sock_accept": (),
}
READING = [name for name in OPERATIONS if "recv" in name]


@pytest.fixture(params=OPERATIONS)
def operation(request):
    return request.param


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_stream_operations(aloop, listener):
    async def serve():
        connection, _ = await aloop.sock_accept(listener)
        with connection:
            while data := await aloop.sock_recv(connection, 65536):
                await aloop.sock_sendall(connection, data)

    async def main():
        server = aloop.create_task(serve())
        with socket.socket() as client:
            client.setblocking(False)
            await aloop.sock_connect(client, listener.getsockname())
            sending = aloop.create_task(aloop.sock_sendall(client, b"x" * 5_000_000))
            buffer, received = bytearray(100_000), 0
            while received < 5_000_000:
                received += await aloop.sock_recv_into(client, buffer)
            await sending
            client.shutdown(socket.SHUT_WR)
            assert await aloop.sock_recv(client, 1) == b""
        await server

    aloop.run_until_complete(main())


def test_datagram_operations(aloop):
    async def main():
        with (
            socket.socket(type=socket.SOCK_DGRAM) as a,
            socket.socket(type=socket.SOCK_DGRAM) as b,
        ):
            for end in (a, b):
                end.setblocking(False)
                end.bind(("127.0.0.1", 0))
            waiting = aloop.create_task(aloop.sock_recvfrom(b, 100))
            await asyncio.sleep(0)
            assert await aloop.sock_sendto(a, b"x", b.getsockname()) == 1
            assert await waiting == (b"x", a.getsockname())
            buffer = bytearray(10)
            await aloop.sock_sendto(a, b"", b.getsockname())
            assert await aloop.sock_recvfrom_into(b, buffer) == (0, a.getsockname())

    aloop.run_until_complete(main())


# Each of them is a coroutine


def test_is_a_coroutine(aloop, pair, operation):
    made = getattr(aloop, operation)(pair[0], *OPERATIONS[operation])
    assert asyncio.iscoroutine(made)
    assert isinstance(made, collections.abc.Coroutine)
    assert made.__name__ == operation
    assert made.__qualname__.endswith(f"EventLoop.{operation}")
    made.close()
    made.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        aloop.run_until_complete(made)


def test_never_awaited(aloop, pair, operation):
    made = getattr(aloop, operation)(pair[0], *OPERATIONS[operation])
    with pytest.warns(RuntimeWarning, match=rf"coroutine '.*{operation}' was never awaited"):
        del made
        gc.collect()


def test_keywords(aloop, pair):
    a, b = pair

    async def main():
        await aloop.sock_sendall(sock=a, data=b"x")
        assert await aloop.sock_recv_into(sock=b, buf=bytearray(1)) == 1
        for call in (aloop.sock_recv, aloop.sock_sendall, aloop.sock_accept, aloop.sock_sendto):
            with pytest.raises(TypeError):
                call()
            with pytest.raises(TypeError):
                call(a, b"x", 3, 4, 5)
            with pytest.raises(TypeError):
                call(a, unknown=1)

    aloop.run_until_complete(main())


def test_awaited_twice(aloop, pair):
    a, b = pair
    b.send(b"x")

    async def main():
        operation = aloop.sock_recv(a, 1)
        assert await operation == b"x"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await operation

    aloop.run_until_complete(main())


def test_nothing_happens_before_it_is_awaited(aloop, pair):
    a, b = pair
    operation = aloop.sock_recv(a, 1)
    b.send(b"x")
    assert a.recv(1) == b"x"
    b.send(b"y")
    assert aloop.run_until_complete(operation) == b"y"


def test_driven_by_hand(aloop, pair):
    a, b = pair
    b.send(b"x")
    operation = aloop.sock_recv(a, 1)
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        operation.send(1)
    with pytest.raises(StopIteration) as stop:
        operation.send(None)
    assert stop.value.value == b"x"
    for data in (b"y", b"z"):
        b.send(data)
        with pytest.raises(StopIteration) as stop:
            next(aloop.sock_recv(a, 1).__await__())
        assert stop.value.value == data and stop.value.args == (data,)
    operation = aloop.sock_recv(a, 1)
    with pytest.raises(KeyError, match="why"):
        operation.throw(KeyError("why"))
    operation = aloop.sock_recv(a, 1)
    assert asyncio.isfuture(operation.send(None))
    with pytest.raises(ZeroDivisionError):
        operation.throw(ZeroDivisionError)
    if isinstance(aloop, asyncio.SelectorEventLoop):
        aloop.remove_reader(a)


def test_a_result_that_is_a_tuple(aloop):
    with (
        socket.socket(type=socket.SOCK_DGRAM) as a,
        socket.socket(type=socket.SOCK_DGRAM) as b,
    ):
        a.bind(("127.0.0.1", 0))
        b.sendto(b"x", a.getsockname())
        a.setblocking(False)
        operation = aloop.sock_recvfrom(a, 10)
        with pytest.raises(StopIteration) as stop:
            operation.send(None)
        assert stop.value.value[0] == b"x"


def test_several_at_once(aloop, pair):
    a, b = pair

    async def main():
        waiting = asyncio.gather(aloop.sock_recv(a, 1), aloop.sock_recv(b, 1))
        await asyncio.sleep(0)
        await asyncio.gather(aloop.sock_sendall(a, b"x"), aloop.sock_sendall(b, b"y"))
        assert await waiting == [b"y", b"x"]

    aloop.run_until_complete(main())


# What it refuses


def test_blocking_sockets_are_refused_in_debug_mode(aloop, operation):
    aloop.set_debug(True)
    with socket.socket() as blocking:
        for timeout in (None, 5.0):
            blocking.settimeout(timeout)
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                aloop.run_until_complete(
                    getattr(aloop, operation)(blocking, *OPERATIONS[operation])
                )


def test_blocking_sockets_are_refused_by_sendfile(aloop, tmp_path):
    aloop.set_debug(True)
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with (
        socket.socket() as blocking,
        path.open("rb") as file,
        pytest.raises(ValueError, match="the socket must be non-blocking"),
    ):
        aloop.run_until_complete(aloop.sock_sendfile(blocking, file))


def test_tls_sockets_are_refused(aloop, operation):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with socket.socket() as plain:
        plain.setblocking(False)
        wrapped = context.wrap_socket(plain, do_handshake_on_connect=False)
        with wrapped, pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
            aloop.run_until_complete(getattr(aloop, operation)(wrapped, *OPERATIONS[operation]))


@pytest.mark.parametrize("name", READING)
def test_sockets_of_transports_are_refused(aloop, pair, name):
    a, _ = pair

    async def main():
        transport, _ = await aloop.create_connection(asyncio.Protocol, sock=a)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await getattr(aloop, name)(a, *OPERATIONS[name])
        transport.close()
        await asyncio.sleep(0)

    aloop.run_until_complete(main())


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("sock_recv", "x"),
        ("sock_recv", 1.5),
        ("sock_recv", -1),
        ("sock_recv", 2**100),
        ("sock_recv_into", b"x"),
        ("sock_recv_into", "x"),
        ("sock_recvfrom", -1),
        ("sock_recvfrom_into", b"x"),
        ("sock_recvfrom_into", 5),
        ("sock_sendall", "x"),
        ("sock_sendall", None),
        ("sock_sendall", memoryview(b"abcd")[::2]),
    ],
)
def test_wrong_arguments(aloop, pair, name, argument):
    """The same exception as the socket's own method raises."""
    a, _ = pair
    method = getattr(a, "send" if name == "sock_sendall" else name.removeprefix("sock_"))
    sizes = [len] if name == "sock_recvfrom_into" else []
    with pytest.raises(Exception) as expected:  # noqa: PT011
        method(argument, *(size(argument) for size in sizes))
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        aloop.run_until_complete(getattr(aloop, name)(a, argument))


def test_what_is_no_socket(aloop, operation):
    with pytest.raises(AttributeError):
        aloop.run_until_complete(getattr(aloop, operation)(None, *OPERATIONS[operation]))


@pytest.mark.parametrize("name", [*READING, "sock_sendall", "sock_accept"])
def test_closed_before(aloop, name):
    with socket.socket() as gone:
        gone.setblocking(False)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        aloop.run_until_complete(getattr(aloop, name)(gone, *OPERATIONS[name]))
    assert caught.value.errno == errno.EBADF


def test_not_connected(aloop):
    with socket.socket() as lonely:
        lonely.setblocking(False)
        with pytest.raises(OSError, match="not connected") as caught:
            aloop.run_until_complete(aloop.sock_recv(lonely, 1))
        assert caught.value.errno == errno.ENOTCONN


# Receiving and sending


@pytest.mark.parametrize("size", [0, 1, 100, 16384, 16385, 65536, 1_000_000])
@pytest.mark.parametrize("first", ["data", "receiver"])
def test_sizes(aloop, pair, size, first):
    a, b = pair
    data = os.urandom(30_000)

    async def main():
        if first == "data":
            b.send(data)
            received = await aloop.sock_recv(a, size)
        elif size:
            task = aloop.create_task(aloop.sock_recv(a, size))
            await asyncio.sleep(0)
            b.send(data)
            received = await task
        else:
            return
        assert received == data[: len(received)]
        assert len(received) == min(size, len(data))
        assert type(received) is bytes

    aloop.run_until_complete(main())


def test_nothing_is_sent_at_once(aloop):
    """Also where the kernel takes no datagram, not even an empty one."""
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with a, b:
        a.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                a.send(b"x" * 1000)
        assert aloop.run_until_complete(asyncio.wait_for(aloop.sock_sendall(a, b""), 30)) is None


def test_end_of_the_stream(aloop, pair):
    a, b = pair
    b.close()

    async def main():
        assert await aloop.sock_recv(a, 10) == b""
        assert await aloop.sock_recv_into(a, bytearray(10)) == 0
        assert await aloop.sock_recv_into(a, bytearray()) == 0

    aloop.run_until_complete(main())


def test_peer_has_gone(aloop, pair):
    a, b = pair
    b.close()
    with pytest.raises(BrokenPipeError):
        aloop.run_until_complete(aloop.sock_sendall(a, b"x"))


def test_a_buffer_that_changes_its_size_meanwhile(aloop, pair):
    a, b = pair
    buffer = bytearray(1)

    async def main():
        task = aloop.create_task(aloop.sock_recv_into(a, buffer))
        await asyncio.sleep(0)
        buffer.extend(b"23")
        b.send(b"abc")
        assert await task == 3
        assert buffer == b"abc"

    aloop.run_until_complete(main())


def test_both_directions_of_one_socket(aloop, pair):
    a, b = pair
    size = 3_000_000

    async def receive(end):
        left = size
        while left:
            left -= len(await aloop.sock_recv(end, 100_000))

    async def main():
        await asyncio.gather(
            *(aloop.sock_sendall(end, bytes(size)) for end in pair),
            *(receive(end) for end in pair),
        )

    aloop.run_until_complete(main())


def test_what_is_sent_can_be_changed_afterwards(ours, pair):
    """A cancelled operation lets go of its buffer with its task."""
    a, _ = pair
    data = bytearray(10_000_000)

    async def main():
        task = ours.create_task(ours.sock_sendall(a, data))
        await asyncio.sleep(0)
        with pytest.raises(BufferError):
            data.append(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        data.append(1)

    ours.run_until_complete(main())


class Careful(socket.socket):
    """A socket whose methods are its own."""

    def recv(self, *args):
        return super().recv(*args).upper()

    def send(self, data):
        return super().send(data[:2])


def test_sockets_of_other_classes(aloop, pair):
    a, b = pair
    with Careful(fileno=os.dup(a.fileno())) as careful:
        careful.setblocking(False)

        async def main():
            task = aloop.create_task(aloop.sock_recv(careful, 10))
            await asyncio.sleep(0)
            b.send(b"x")
            assert await task == b"X"
            await aloop.sock_sendall(careful, b"abcde")
            assert b.recv(10) == b"abcde"

        aloop.run_until_complete(main())


def test_datagram_into_a_part_of_a_buffer(aloop):
    with (
        socket.socket(type=socket.SOCK_DGRAM) as a,
        socket.socket(type=socket.SOCK_DGRAM) as b,
    ):
        for end in (a, b):
            end.setblocking(False)
            end.bind(("127.0.0.1", 0))

        async def main():
            buffer = bytearray(b"----")
            task = aloop.create_task(aloop.sock_recvfrom_into(b, buffer, 2))
            await asyncio.sleep(0)
            await aloop.sock_sendto(a, b"abc", b.getsockname())
            assert await task == (2, a.getsockname())
            assert buffer == b"ab--"

        aloop.run_until_complete(main())


# Connecting and accepting


def test_accepted_sockets_do_not_block(aloop, listener):
    async def main():
        with socket.create_connection(listener.getsockname()) as client:
            connection, address = await aloop.sock_accept(listener)
            with connection:
                assert connection.gettimeout() == 0
                assert address == client.getsockname()

    aloop.run_until_complete(main())


def test_connect_refused(aloop):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = nobody.getsockname()
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
                aloop.run_until_complete(aloop.sock_connect(client, address))


def test_connect_by_name(aloop, listener):
    with socket.socket() as client:
        client.setblocking(False)
        address = ("localhost", listener.getsockname()[1])
        assert aloop.run_until_complete(aloop.sock_connect(client, address)) is None
        assert client.getpeername() == listener.getsockname()
    aloop.run_until_complete(aloop.shutdown_default_executor())


def test_connect_unix(aloop, tmp_path):
    path = str(tmp_path / "socket")
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.setblocking(False)
        with pytest.raises(FileNotFoundError):
            aloop.run_until_complete(aloop.sock_connect(client, path))
        server.bind(path)
        server.listen()
        aloop.run_until_complete(aloop.sock_connect(client, path))
        assert client.getpeername() == path


@pytest.mark.parametrize("address", [("127.0.0.1", 65536), ("127.0.0.1", -1)])
def test_connect_to_what_is_no_port(aloop, address):
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(OverflowError):
            aloop.run_until_complete(aloop.sock_connect(client, address))


# Cancelled, closed, replaced


def test_cancelled_operations_leave_the_number_free(aloop, listener, pair):
    a, b = pair

    async def main():
        full = socket.socketpair()
        for end in full:
            end.setblocking(False)
        with full[0], full[1]:
            operations = {
                listener: aloop.sock_accept(listener),
                a: aloop.sock_recv(a, 1),
                full[0]: aloop.sock_sendall(full[0], b"x" * 10_000_000),
            }
            for end, operation in operations.items():
                task = aloop.create_task(operation)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not aloop.remove_reader(end)
                assert not aloop.remove_writer(end)
        # The number is somebody else's now.
        c, d = socket.socketpair()
        with c, d:
            c.setblocking(False)
            d.send(b"x")
            assert await aloop.sock_recv(c, 1) == b"x"

    aloop.run_until_complete(main())


def test_others_go_on_when_one_is_closed(aloop, pair):
    """The call fails or waits until it is cancelled."""

    async def main():
        c, d = socket.socketpair()
        c.setblocking(False)
        task = aloop.create_task(aloop.sock_recv(c, 1))
        await asyncio.sleep(0)
        fd = c.fileno()
        c.close()
        d.close()
        a, b = pair
        b.send(b"x")
        assert await asyncio.wait_for(aloop.sock_recv(a, 1), 20) == b"x"
        task.cancel()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await task
        aloop.remove_reader(fd)

    aloop.set_exception_handler(lambda loop, context: None)
    aloop.run_until_complete(main())


def test_cancelled_connect_leaves_the_number_free(aloop, listener):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            task = aloop.create_task(aloop.sock_connect(client, listener.getsockname()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not aloop.remove_writer(client)

    aloop.run_until_complete(main())


def test_cancelled_when_the_data_has_come(aloop, pair):
    """It has taken nothing."""
    a, b = pair

    async def main():
        task = aloop.create_task(aloop.sock_recv(a, 1))
        await asyncio.sleep(0)
        b.send(b"x")
        aloop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await aloop.sock_recv(a, 1) == b"x"

    aloop.run_until_complete(main())


def test_woken_and_cancelled_in_one_turn(ours, pair, spin):
    """The descriptor is ready first, then the task is cancelled, then it would have run."""
    a, b = pair
    task = ours.create_task(ours.sock_recv(a, 1))
    spin(ours)
    b.send(b"x")
    with ours.ev.check(lambda watcher, revents: task.cancel()):
        spin(ours)
    with pytest.raises(asyncio.CancelledError):
        ours.run_until_complete(task)
    assert a.recv(1) == b"x"
    assert not ours.remove_reader(a)


@pytest.mark.parametrize("again", [False, True], ids=["closed", "used again"])
def test_closed_while_it_waits(ours, again):
    """It fails, and does not take what is another socket's by now."""

    async def main():
        a, b = socket.socketpair()
        a.setblocking(False)
        task = ours.create_task(ours.sock_recv(a, 1))
        await asyncio.sleep(0)
        a.close()
        b.close()
        ends = socket.socketpair() if again else ()
        if again:
            ends[1].send(b"x")
        with pytest.raises(OSError, match="Bad file descriptor"):
            await asyncio.wait_for(task, 20)
        if again:
            assert ends[0].recv(1) == b"x"
        for end in ends:
            end.close()

    ours.run_until_complete(main())


@pytest.mark.parametrize("number", [-1, 2**31 - 1])
def test_a_number_that_is_no_descriptors(aloop, number):
    """The socket's class says what it likes of itself once it would have to wait."""

    class Socket(socket.socket):
        waits = False

        def recv(self, _):
            self.waits = True
            raise BlockingIOError

        def fileno(self):
            return number if self.waits else super().fileno()

    async def main():
        with Socket() as sock:
            sock.setblocking(False)
            with pytest.raises((OSError, ValueError), match=r"file descriptor"):
                await aloop.sock_recv(sock, 1)

    aloop.run_until_complete(main())


def test_numbers_used_again_within_a_turn(aloop):
    """An operation ends, its socket is closed, and the next one gets its number."""

    async def main():
        numbers = set()
        for _ in range(10):
            a, b = socket.socketpair()
            with a, b:
                a.setblocking(False)
                numbers.add(a.fileno())
                task = aloop.create_task(aloop.sock_recv(a, 1))
                await asyncio.sleep(0)
                b.send(b"x")
                assert await task == b"x"
        assert len(numbers) == 1

    aloop.run_until_complete(main())


def test_number_used_again_while_another_operation_waits_on_it(ours):
    """No poll comes between the start for the old file and the start for the new one."""

    async def main():
        a, b = socket.socketpair()
        a.setblocking(False)
        task = ours.create_task(ours.sock_recv(a, 1))
        await asyncio.sleep(0.001)
        b.send(b"x")
        assert await task == b"x"
        fd = a.fileno()
        waiting = ours.sock_recv(a, 1)
        waiting.send(None)
        a.close()
        b.close()
        waiting.close()
        c, d = socket.socketpair()
        with c, d:
            c.setblocking(False)
            assert c.fileno() == fd
            task = ours.create_task(ours.sock_recv(c, 1))
            await asyncio.sleep(0.001)
            d.send(b"y")
            assert await asyncio.wait_for(task, 20) == b"y"

    ours.run_until_complete(main())


def test_replaced_by_a_reader(aloop, pair):
    """As in asyncio the operation waits on, and cancelling it leaves the reader alone."""
    a, b = pair
    seen = []

    async def main():
        task = aloop.create_task(aloop.sock_recv(a, 1))
        await asyncio.sleep(0)
        came = asyncio.Event()
        aloop.add_reader(a, lambda: (seen.append(a.recv(1)), came.set()))
        b.send(b"x")
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert aloop.remove_reader(a) is True

    aloop.run_until_complete(main())
    assert seen == [b"x"]


def test_replaced_when_it_was_woken(aloop, pair):
    """As in asyncio, by another that took what it was woken for: it does not come back."""
    a, b = pair

    async def receive_twice():
        return [await aloop.sock_recv(a, 1) for _ in range(2)]

    async def main():
        first = aloop.create_task(aloop.sock_recv(a, 1))
        await asyncio.sleep(0)
        b.send(b"x")
        second = aloop.create_task(receive_twice())
        aloop.add_reader(b, lambda: None)  # the loop polls before the second runs
        for _ in range(5):
            await asyncio.sleep(0)
        aloop.remove_reader(b)
        b.send(b"y")
        assert await asyncio.wait_for(second, 10) == [b"x", b"y"]
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    aloop.run_until_complete(main())


def test_removed_by_remove_reader(aloop, pair):
    a, _ = pair

    async def main():
        task = aloop.create_task(aloop.sock_recv(a, 1))
        await asyncio.sleep(0)
        assert aloop.remove_reader(a) is True
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    aloop.run_until_complete(main())


def test_the_loop_is_closed_while_it_waits(ours, pair, spin):
    a, _ = pair
    task = ours.create_task(ours.sock_recv(a, 1))
    spin(ours)
    task._log_destroy_pending = False
    ours.close()
    del task
    gc.collect()


# sendfile


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 8000)
    with path.open("rb") as file:
        yield file


@pytest.mark.parametrize(
    ("offset", "count"), [(0, None), (5, None), (5, 100_000), (2_000_000, 100_000), (3_000_000, 5)]
)
def test_sendfile(aloop, pair, file, offset, count):
    a, b = pair
    expected = file.read()[offset:][:count]

    async def receive():
        received = bytearray()
        while data := await aloop.sock_recv(b, 65536):
            received += data
        return bytes(received)

    async def main():
        task = aloop.create_task(receive())
        assert await aloop.sock_sendfile(a, file, offset, count) == len(expected)
        a.shutdown(socket.SHUT_WR)
        assert await task == expected
        if expected:
            assert file.tell() == offset + len(expected)

    aloop.run_until_complete(main())


def test_sendfile_cancelled(aloop, pair, file):
    a, _ = pair

    async def main():
        task = aloop.create_task(aloop.sock_sendfile(a, file))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not aloop.remove_writer(a)

    aloop.run_until_complete(main())


def test_sendfile_cancelled_when_the_file_is_closed(aloop, pair, file, tmp_path):
    """The task is told of that, and the number's next owner keeps his position."""
    a, _ = pair

    async def main():
        task = aloop.create_task(aloop.sock_sendfile(a, file))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        number = file.fileno()
        task.cancel()
        file.close()
        with (tmp_path / "other").open("wb") as other:
            assert other.fileno() == number
            with pytest.raises(asyncio.CancelledError):
                await task
            assert os.lseek(number, 0, os.SEEK_CUR) == 0

    aloop.run_until_complete(main())


def test_sendfile_of_what_is_no_file(aloop, pair):
    a, _ = pair

    class Source:
        mode = "rb"

        def readinto(self, _):
            return 0

    async def main():
        assert await aloop.sock_sendfile(a, Source()) == 0
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
            await aloop.sock_sendfile(a, Source(), fallback=False)

    aloop.run_until_complete(main())
    aloop.run_until_complete(aloop.shutdown_default_executor())


def test_sendfile_peer_has_gone(aloop, pair, file):
    a, b = pair

    async def main():
        task = aloop.create_task(aloop.sock_sendfile(a, file))
        await asyncio.sleep(0)
        b.close()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            await task

    aloop.run_until_complete(main())
