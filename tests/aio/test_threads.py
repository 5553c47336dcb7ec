"""What other threads may do, and what happens when they do what they may not."""

import asyncio
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

THREAD_SAFE = hasattr(asyncio.events, "_ThreadSafeHandle")  # Python 3.14


def in_thread(function, *args):
    """What it raised or returned, in a thread of its own."""
    results = []

    def run():
        try:
            results.append(function(*args))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def test_wakes_a_loop_that_waits(aloop):
    thread = threading.Thread(target=aloop.call_soon_threadsafe, args=(aloop.stop,))
    aloop.call_soon(thread.start)
    aloop.run_forever()
    thread.join()


def test_every_callback_once_and_in_order(aloop):
    # In debug mode each call looks at its stack, and asyncio's are slow.
    many = hasattr(aloop, "ev") and not aloop.get_debug()
    threads, calls = 8, 100_000 if many else 2_000
    seen = [[] for _ in range(threads)]
    left = [threads]

    def done():
        left[0] -= 1
        if not left[0]:
            aloop.stop()

    def work(number):
        for i in range(calls):
            aloop.call_soon_threadsafe(seen[number].append, i)
        aloop.call_soon_threadsafe(done)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        aloop.call_soon(worker.start)
    aloop.run_forever()
    for worker in workers:
        worker.join()
    assert seen == [list(range(calls))] * threads


def test_before_the_loop_runs(aloop, spin):
    """However often: what wakes a loop up cannot become full."""
    seen = []
    aloop.set_debug(False)
    for i in range(100_000):
        aloop.call_soon_threadsafe(seen.append, i)
    spin(aloop)
    assert seen == list(range(100_000))


@pytest.mark.parametrize("how", ["closed", "another file"])
def test_what_wakes_the_loop_is_gone(script, how):
    """Its descriptor was closed by somebody: an error, or the call, but no silence."""
    program = """
    import faulthandler, os, pyev, sys, threading
    faulthandler.dump_traceback_later(40, exit=True)
    loop = pyev.new_event_loop()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventfd]":
                found = int(name)
        except OSError:
            pass
    def spoil():
        if sys.argv[1] == "closed":
            os.close(found)
        else:
            os.dup2(os.open("/dev/null", os.O_RDONLY), found)
        thread.start()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(spoil)
    try:
        loop.run_forever()
    except OSError as error:
        print("OSError")
    else:
        print("called")
    thread.join()
    loop.close()
    """
    assert script(program, how).split() in (["OSError"], ["called"])


@pytest.mark.skipif(
    os.uname().machine not in ("x86_64", "aarch64"),
    reason="how system calls are numbered here is not known",
)
@pytest.mark.parametrize("how", ["closed", "another file", "closed after reset"])
def test_what_wakes_the_loop_goes_while_it_waits(script, how):
    """Nobody can end the wait, and whoever tries is told."""
    program = """
    import asyncio, faulthandler, os, pyev, signal, sys, threading
    faulthandler.dump_traceback_later(40, exit=True)
    sys.path.append(sys.argv[2])
    import fault_kit
    loop = pyev.new_event_loop()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventfd]":
                found = int(name)
        except OSError:
            pass
    if "reset" in sys.argv[1]:
        loop.ev.reset()
        loop.run_until_complete(asyncio.sleep(0.001))
    null = os.open(os.devnull, os.O_RDONLY)
    watcher = loop.ev.async_(lambda watcher, revents: None)
    watcher.start()
    def spoil():
        fault_kit.wait_until_blocked()
        if "closed" in sys.argv[1]:
            os.close(found)
        else:
            os.dup2(null, found)
        for call in (lambda: loop.call_soon_threadsafe(int), watcher.send):
            try:
                call()
            except OSError as error:
                print(error)
        signal.raise_signal(signal.SIGINT)
    thread = threading.Thread(target=spoil)
    loop.call_soon(thread.start)
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        print("Ctrl-C")
    thread.join()
    watcher.stop()
    loop.close()
    os.close(null)
    """
    told = "[Errno 9] Bad file descriptor"
    faults = str(Path(__file__).parent.parent / "faults")
    assert script(program, how, faults).splitlines() == [told, told, "Ctrl-C"]


def post_and_wait(loop, times):
    """Another thread wakes the loop that often, each time when it waits."""

    def work():
        lock = threading.Lock()
        lock.acquire()
        for _ in range(times):
            loop.call_soon_threadsafe(lock.release)
            assert lock.acquire(timeout=60)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


def test_woken_again_and_again(aloop):
    for times in (1, 50, 50):
        post_and_wait(aloop, times)


@pytest.mark.parametrize("ours", ["pyev", "pyev-debug"], indirect=True)
def test_woken_after_the_backend_was_made_anew(ours):
    for _ in range(3):
        post_and_wait(ours, 30)
        ours.ev.reset()


@pytest.mark.parametrize("ours", ["pyev"], indirect=True)
def test_a_loop_that_was_woken_rests_again(ours):
    """What woke it up does not stay ready."""
    post_and_wait(ours, 50)
    ours.ev.reset()
    post_and_wait(ours, 50)
    before = ours.ev.iteration
    ours.call_later(0.05, ours.stop)
    ours.run_forever()
    assert ours.ev.iteration - before < 10


def test_woken_in_a_child_and_in_its_parent(script):
    program = """
    import faulthandler, os, pyev, sys, threading
    faulthandler.dump_traceback_later(40, exit=True)
    loop = pyev.new_event_loop()

    def post_and_wait(times):
        def work():
            lock = threading.Lock()
            lock.acquire()
            for _ in range(times):
                loop.call_soon_threadsafe(lock.release)
                lock.acquire()
            loop.call_soon_threadsafe(loop.stop)
        thread = threading.Thread(target=work)
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()

    post_and_wait(50)
    sys.stdout.flush()
    child = os.fork()
    post_and_wait(50)
    if child == 0:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    post_and_wait(50)
    loop.close()
    print(status)
    """
    assert script(program) == "0\n"


@pytest.mark.parametrize("how", ["closed", "another file"])
def test_what_woke_the_loop_goes(script, how):
    program = """
    import faulthandler, os, pyev, sys, tempfile, threading
    faulthandler.dump_traceback_later(40, exit=True)
    file = tempfile.TemporaryFile()

    def eventfds():
        found = set()
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventfd]":
                    found.add(int(name))
            except OSError:
                pass
        return found

    loop = pyev.new_event_loop()
    before = eventfds()

    def work():
        lock = threading.Lock()
        lock.acquire()
        for i in range(100):
            if i == 50:
                (found,) = eventfds() - before
                os.close(found)
                if sys.argv[1] != "closed":
                    os.dup2(file.fileno(), found)
            loop.call_soon_threadsafe(lock.release)
            lock.acquire()
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.close()
    print(os.fstat(file.fileno()).st_size)
    file.close()
    """
    assert script(program, how) == "0\n"


def test_closed(aloop):
    aloop.close()
    error = in_thread(aloop.call_soon_threadsafe, print)
    assert isinstance(error, RuntimeError)
    assert str(error) == "Event loop is closed"


@pytest.mark.parametrize("name", ["call_soon", "call_later", "call_at"])
def test_the_others_are_refused_in_debug_mode(aloop, name):
    args = (print,) if name == "call_soon" else (1000, print)
    errors = []

    def call():
        errors.append(in_thread(getattr(aloop, name), *args))
        aloop.stop()

    aloop.set_debug(True)
    aloop.call_soon(call)
    aloop.run_forever()
    assert isinstance(errors[0], RuntimeError)
    assert "Non-thread-safe operation" in str(errors[0])


def test_the_others_do_no_harm(ours, spin):
    """Wrong, and nothing is promised but that the loop goes on."""
    ours.set_debug(False)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            ours.call_soon(int)
            ours.call_later(1000, int).cancel()
            ours.call_later(0, int)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(300):
        handles = [ours.call_later(1000, int) for _ in range(10)]
        spin(ours)
        for handle in handles:
            handle.cancel()
    stop.set()
    for worker in workers:
        worker.join()
    spin(ours)


def test_cancelled_by_another_thread(aloop, spin):
    handle = aloop.call_soon_threadsafe(pytest.fail)
    in_thread(handle.cancel)
    assert handle.cancelled()
    spin(aloop)


def test_run_coroutine_threadsafe(aloop):
    async def answer():
        await asyncio.sleep(0)
        return 42

    results = []

    def work():
        results.append(asyncio.run_coroutine_threadsafe(answer(), aloop).result(20))
        aloop.call_soon_threadsafe(aloop.stop)

    thread = threading.Thread(target=work)
    aloop.call_soon(thread.start)
    aloop.run_forever()
    thread.join()
    assert results == [42]


@pytest.mark.parametrize("where", ["in a poll", "in a callback"])
def test_another_thread_watches_a_descriptor(aloop, pair, where):
    """What asyncio does not promise, and does."""
    a, b = pair
    polls, told = threading.Event(), threading.Event()

    def watch():
        aloop.add_reader(a, told.set)
        b.send(b"x")

    def work():
        polls.wait()
        try:
            if where == "in a poll":
                watch()
            return told.wait(20), aloop.remove_reader(a)
        finally:
            aloop.call_soon_threadsafe(aloop.stop)

    with ThreadPoolExecutor(1) as other:
        result = other.submit(work)
        if where == "in a callback":
            aloop.call_soon(in_thread, watch)
        aloop.call_soon(polls.set)
        aloop.run_forever()
        assert result.result() == (True, True)


def test_another_thread_writes_more_than_the_kernel_takes(aloop):
    size = 4 << 20
    here, there = socket.socketpair()
    polls = threading.Event()

    def work():
        polls.wait()
        try:
            transport.write(bytes(size))
            left = size
            while left:
                left -= len(there.recv(left))
        finally:
            aloop.call_soon_threadsafe(aloop.stop)

    connecting = aloop.create_connection(asyncio.Protocol, sock=here)
    transport, _ = aloop.run_until_complete(connecting)
    there.settimeout(20)
    with there, ThreadPoolExecutor(1) as other:
        result = other.submit(work)
        aloop.call_soon(polls.set)
        aloop.run_forever()
        result.result()
        transport.abort()
        aloop.run_until_complete(asyncio.sleep(0))


def test_loops_in_parallel_threads(factory):
    async def main(number):
        for _ in range(50):
            await asyncio.sleep(0)
        return number

    def work(number):
        with asyncio.Runner(loop_factory=factory) as runner:
            results.append(runner.run(main(number)))

    results = []
    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(results) == list(range(8))


def test_to_thread(aloop):
    async def main():
        return await asyncio.gather(*(asyncio.to_thread(int, i) for i in range(20)))

    assert aloop.run_until_complete(main()) == list(range(20))
    aloop.run_until_complete(aloop.shutdown_default_executor())


# Cancelled while it runs, by another thread


class Blocking:
    """A callback that another thread asks the handle of while it runs."""

    def __init__(self, loop):
        self.loop = loop
        self.started = threading.Event()
        self.asking = threading.Event()
        self.finished = False
        self.runs = 0

    def __call__(self):
        self.runs += 1
        self.started.set()
        self.asking.wait()
        # The other thread is about to ask: let it, with no way of knowing when it waits.
        for _ in range(50):
            time.sleep(0.001)
        self.finished = True
        self.loop.stop()

    def ask(self, method):
        self.started.wait()
        self.asking.set()
        result = method()
        self.finished_first = self.finished
        return result


@pytest.mark.skipif(not THREAD_SAFE, reason="handles of this Python's asyncio do not wait")
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_cancelling_waits_for_the_callback(aloop, method):
    blocking = Blocking(aloop)
    handle = aloop.call_soon_threadsafe(blocking)
    assert isinstance(handle, asyncio.events._ThreadSafeHandle)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(blocking.ask(getattr(handle, method))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    aloop.run_forever()
    for thread in threads:
        thread.join()
    assert blocking.finished_first
    assert blocking.runs == 1
    assert results == [None if method == "cancel" else False] * 3
    assert handle.cancelled() == (method == "cancel")


@pytest.mark.skipif(not THREAD_SAFE, reason="handles of this Python's asyncio do not wait")
def test_a_callback_may_cancel_itself(aloop):
    def callback():
        handle.cancel()
        seen.append(handle.cancelled())
        aloop.stop()

    seen = []
    handle = aloop.call_soon_threadsafe(callback)
    aloop.run_forever()
    assert seen == [True]


@pytest.mark.skipif(not THREAD_SAFE, reason="handles of this Python's asyncio do not wait")
def test_a_signal_ends_the_wait(script):
    """The main thread waits for a handle that another thread runs, and Ctrl-C is pressed."""
    script("""
    import os, signal, threading
    import pyev

    started, over = threading.Event(), threading.Event()

    def callback():
        started.set()
        os.kill(os.getpid(), signal.SIGINT)
        over.wait()
        loop.stop()

    loop = pyev.new_event_loop()
    handle = loop.call_soon_threadsafe(callback)
    thread = threading.Thread(target=loop.run_forever)
    try:
        thread.start()
        started.wait()
        handle.cancel()
    except KeyboardInterrupt:
        over.set()
    thread.join()
    loop.close()
    """)
