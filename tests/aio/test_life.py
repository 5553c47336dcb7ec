"""Event loops across forks, beside other threads and interpreters, and closed with all in hand."""

import asyncio
import gc
import sys
import textwrap
import threading
import warnings

import pytest

MODES = pytest.mark.parametrize("debug", ["", "1"], ids=["plain", "debug"])
LOOPS = pytest.mark.parametrize(
    "loop", ["pyev.EventLoop", "asyncio.SelectorEventLoop"], ids=["pyev", "asyncio"]
)


@pytest.fixture
def program(script):
    """Runs a program with a loop of each kind, in and out of debug mode."""

    def run(source, loop, debug, *args, status=0):
        header = (
            f"import asyncio, faulthandler, gc, os, pyev, signal, socket, subprocess, sys\n"
            f"import threading, warnings\nfaulthandler.dump_traceback_later(45, exit=True)\n"
            f"warnings.simplefilter('ignore', ResourceWarning)\n"
            f"warnings.simplefilter('ignore', DeprecationWarning)\nnew_loop = {loop}\n"
            f"import logging; logging.getLogger('asyncio').setLevel('ERROR')  # slowness\n"
        )
        source = header + textwrap.dedent(source)
        return script(source, *args, env={"PYTHONASYNCIODEBUG": debug}, status=status).split()

    return run


# Forks


@MODES
@LOOPS
def test_child_makes_a_loop_of_its_own(program, loop, debug):
    """The parent's registrations and wake-up are untouched."""
    source = """
    def work(loop, word):
        a, b = socket.socketpair()
        a.setblocking(False)
        b.send(word)
        with a, b:
            return loop.run_until_complete(asyncio.wait_for(loop.sock_recv(a, 10), 20))
    loop = new_loop()
    a, b = socket.socketpair()
    seen = []
    loop.add_reader(a, lambda: (seen.append(a.recv(1)), loop.stop()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    pid = os.fork()
    if not pid:
        mine = new_loop()
        done = work(mine, b"child") == b"child"
        mine.call_soon_threadsafe(mine.stop)
        mine.run_forever()
        mine.close()
        os._exit(7 if done else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    b.send(b"x")
    loop.run_forever()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    print(status, seen, work(loop, b"parent"))
    loop.remove_reader(a)
    loop.close()
    """
    assert program(source, loop, debug) == ["7", "[b'x']", "b'parent'"]


@MODES
@pytest.mark.parametrize("running", [False, True])
def test_child_uses_the_loop(program, debug, running):
    """It has registrations of its own: what it reads and removes is not the parent's."""
    source = """
    loop = new_loop()
    a, b = socket.socketpair()
    seen = []
    loop.add_reader(a, lambda: (seen.append(a.recv(1)), loop.stop()))
    pids = []
    def fork():
        loop.stop()
        pids.append(os.fork())
    if int(sys.argv[1]):
        loop.call_soon(fork)
        loop.run_forever()
    else:
        fork()
        loop.call_soon(loop.stop)
        loop.run_forever()
    if not pids[0]:
        asyncio._set_running_loop(None)
        c, d = socket.socketpair()
        loop.remove_reader(a)
        loop.add_reader(c, lambda: (seen.append(c.recv(1)), loop.stop()))
        d.send(b"c")
        loop.run_forever()
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()
        os._exit(7 if seen == [b"c"] else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1])
    b.send(b"p")
    loop.run_forever()
    print(status, seen)
    loop.remove_reader(a)
    loop.close()
    """
    assert program(source, "pyev.EventLoop", debug, str(int(running))) == ["7", "[b'p']"]


@MODES
@LOOPS
def test_child_only_exits(program, loop, debug):
    """With a connection open: the parent's goes on."""
    source = """
    loop = new_loop()
    async def main():
        reader, writer = await asyncio.open_connection(sock=a)
        pid = os.fork()
        if not pid:
            os._exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        b.send(b"x")
        print(await reader.read(1))
        writer.close()
    a, b = socket.socketpair()
    loop.run_until_complete(main())
    loop.close()
    """
    assert program(source, loop, debug) == ["3", "b'x'"]


@MODES
@LOOPS
def test_fork_in_another_thread(program, loop, debug):
    source = """
    loop = new_loop()
    def fork():
        pid = os.fork()
        if not pid:
            os._exit(5)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        loop.call_soon_threadsafe(done, status)
    def done(status):
        print(status)
        loop.stop()
    thread = threading.Thread(target=fork)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.close()
    """
    assert program(source, loop, debug) == ["5"]


# Foreign children


@MODES
@LOOPS
def test_children_of_others(program, loop, debug):
    """Whoever started them gets their statuses, while a loop runs and waits for its own."""
    source = """
    async def main():
        theirs = [
            subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({i})"])
            for i in range(3)
        ]
        ours = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-c", f"raise SystemExit({i})"
            )
            for i in range(3, 5)
        ]
        print(*[await process.wait() for process in ours])
        print(*[await asyncio.to_thread(process.wait) for process in theirs])
        pid = os.posix_spawn(
            sys.executable, [sys.executable, "-S", "-c", "raise SystemExit(9)"], os.environ
        )
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        if sys.version_info < (3, 12):
            asyncio.set_event_loop(runner.get_loop())
        runner.run(main())
    """
    assert program(source, loop, debug) == ["3", "4", "0", "1", "2", "9"]


# The end


@MODES
@LOOPS
def test_interpreter_ends_beside_a_daemon_thread(program, loop, debug):
    """Inside run_forever, blocked or busy: no crash, no callback after the end."""
    source = """
    started = threading.Event()
    def work(busy):
        loop = new_loop()
        def again():
            loop.call_soon(again)
        if busy:
            again()
        loop.call_soon(started.set)
        loop.run_forever()
    for busy in (False, True):
        started.clear()
        threading.Thread(target=work, args=(busy,), daemon=True).start()
        started.wait()
    print("end")
    """
    assert program(source, loop, debug) == ["end"]


@MODES
@LOOPS
def test_interpreter_ends_with_everything_open(program, loop, debug):
    source = """
    warnings.simplefilter("ignore")
    loop = new_loop()
    keep = []
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        keep.append(await loop.create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname()
        ))
        keep.append(await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        ))
        read, write = os.pipe()
        keep.append(await loop.connect_read_pipe(asyncio.Protocol, open(read, "rb", 0)))
        keep.append(await loop.connect_write_pipe(asyncio.BaseProtocol, open(write, "wb", 0)))
        keep[0][0].write(b"x" * 10_000_000)
        loop.call_later(1000, print, "late")
    loop.run_until_complete(main())
    print("end")
    sys.stderr = open("/dev/null", "w")
    """
    assert program(source, loop, debug) == ["end"]


@MODES
@pytest.mark.skipif(sys.version_info < (3, 12), reason="subinterpreters refuse threads before")
def test_subinterpreter(program, debug):
    """Refused cleanly, or it works; and this interpreter goes on."""
    source = """
    try:
        import _interpreters as interpreters
        run = interpreters.exec
    except ImportError:
        import _xxsubinterpreters as interpreters
        run = interpreters.run_string
    loop = new_loop()
    inner = interpreters.create()
    try:
        failed = run(inner, "import pyev; loop = pyev.new_event_loop(); loop.call_soon(loop.stop);"
                            "loop.run_forever(); loop.close()")
    except Exception as error:
        failed = error
    interpreters.destroy(inner)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    print("end")
    """
    assert program(source, "pyev.EventLoop", debug) == ["end"]


# close() with everything in hand


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_close_with_everything_in_hand(factory):
    """Transports, servers, timers, a lookup and a busy executor; late completions are discarded."""
    loop = factory()
    release = threading.Event()
    seen = []

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.write(bytes(10_000_000))
        endpoint, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        loop.call_later(1000, seen.append, "timer")
        loop.call_soon(seen.append, "soon")
        busy = loop.run_in_executor(None, release.wait)
        lookup = asyncio.ensure_future(loop.getaddrinfo("localhost", 80))
        await asyncio.sleep(0)
        return server, transport, endpoint, busy, lookup

    things = loop.run_until_complete(main())
    threads = list(loop._default_executor._threads)
    errors = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    loop.close()
    release.set()
    for thread in threads:
        thread.join()
    del things
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    assert seen == ["soon"]
    assert loop.is_closed()


def test_close_while_other_threads_post(factory):
    """Each call is made or refused; none crashes."""
    for _ in range(5):
        loop = factory()
        refused = []
        go = threading.Event()

        def post(loop=loop, refused=refused, go=go):
            go.set()
            try:
                while True:
                    loop.call_soon_threadsafe(int)
            except RuntimeError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=post) for _ in range(3)]
        for thread in threads:
            thread.start()
        go.wait()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        for thread in threads:
            thread.join()
        assert refused == ["Event loop is closed"] * 3


def test_a_wait_for_a_thread_that_ends_after_close(factory):
    loop = factory()
    release = threading.Event()

    async def main():
        task = asyncio.ensure_future(asyncio.to_thread(release.wait))
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(main())
    threads = list(loop._default_executor._threads)
    loop.set_exception_handler(lambda loop, context: None)
    loop.close()
    release.set()
    for thread in threads:
        thread.join()
    assert not task.done()
    del task
    gc.collect()
