"""run_forever, run_until_complete, close, and the ways to start a program."""

import asyncio
import functools
import gc
import inspect
import sys
import threading
import weakref

import pytest

import pyev


async def answer():
    await asyncio.sleep(0)
    return 42


def test_run():
    async def main():
        assert type(asyncio.get_running_loop()) is pyev.EventLoop
        return await answer()

    assert pyev.run(main()) == 42


def test_run_in_debug_mode():
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert pyev.run(main(), debug=True) is True
    assert pyev.run(main(), debug=False) is False
    assert inspect.signature(pyev.run).parameters["debug"].kind is inspect.Parameter.KEYWORD_ONLY


def test_run_with_a_factory():
    """On every Python, though asyncio.run() has it from 3.12 on."""
    select_loop = functools.partial(pyev.EventLoop, pyev.EVBACKEND_SELECT)

    async def running():
        return asyncio.get_running_loop()

    async def backend():
        return asyncio.get_running_loop().ev.backend

    assert pyev.run(backend(), loop_factory=select_loop) == pyev.EVBACKEND_SELECT
    assert type(pyev.run(running(), loop_factory=None)) is pyev.EventLoop
    loop = pyev.run(running(), loop_factory=asyncio.SelectorEventLoop, debug=True)
    assert type(loop) is asyncio.SelectorEventLoop
    assert loop.get_debug()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run() has fewer before Python 3.12")
def test_run_takes_what_asyncio_run_takes():
    expected = inspect.signature(asyncio.run).parameters
    actual = inspect.signature(pyev.run).parameters
    assert {n: (p.kind, p.default) for n, p in actual.items()} == {
        n: (p.kind, p.default) for n, p in expected.items()
    }


def test_run_raises_what_the_coroutine_raises():
    async def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pyev.run(main())


def test_run_inside_a_running_loop():
    async def main():
        coroutine = answer()
        with pytest.raises(RuntimeError, match="running event loop"):
            pyev.run(coroutine)
        coroutine.close()

    pyev.run(main())


def test_run_takes_coroutines_only():
    with pytest.raises((TypeError, ValueError), match="coroutine"):
        pyev.run(1)


@pytest.mark.parametrize("name", ["pyev.run", "asyncio.run"])
def test_ctrl_c_cancels_the_main_task(script, name):
    program = f"""
    import asyncio, os, signal
    import pyev

    async def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            print("cancelled")
            raise

    try:
        {name}(main())
    except KeyboardInterrupt:
        print("interrupted")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    """
    assert script(program).split() == ["cancelled", "interrupted"]


def test_runner(factory):
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(answer()) == 42
        assert runner.run(answer()) == 42


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory is of Python 3.12")
def test_asyncio_run(factory):
    assert asyncio.run(answer(), loop_factory=factory) == 42


def test_types():
    loop = pyev.new_event_loop()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert isinstance(loop, pyev.EventLoop)
    loop.close()


def test_repr(aloop):
    assert f"{type(aloop).__name__} running=False closed=False debug={aloop.get_debug()}>" in repr(
        aloop
    )
    aloop.close()
    assert "closed=True" in repr(aloop)


def test_stop_before_running(aloop):
    seen = []
    aloop.call_soon(seen.append, 1)
    aloop.stop()
    aloop.run_forever()
    assert seen == [1]
    aloop.call_soon(aloop.stop)
    aloop.run_forever()


def test_running(aloop):
    def check():
        seen.append(aloop.is_running())
        assert asyncio.get_running_loop() is aloop
        aloop.stop()

    seen = []
    aloop.call_soon(check)
    assert not aloop.is_running()
    aloop.run_forever()
    assert seen == [True]
    assert not aloop.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_run_again_from_inside(aloop):
    def again():
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            aloop.run_forever()
        seen.append(1)
        aloop.stop()

    seen = []
    aloop.call_soon(again)
    aloop.run_forever()
    assert seen == [1]


def test_close_from_inside(aloop):
    def close():
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            aloop.close()
        seen.append(1)
        aloop.stop()

    seen = []
    aloop.call_soon(close)
    aloop.run_forever()
    assert seen == [1]


def test_another_loop_from_inside(factory):
    def inside():
        with pytest.raises(RuntimeError, match="while another loop is running"):
            inner.run_forever()
        outer.stop()

    outer, inner = factory(), factory()
    outer.call_soon(inside)
    outer.run_forever()
    outer.close()
    inner.close()


def test_from_another_thread(aloop):
    caught = []

    def run():
        try:
            aloop.run_forever()
        except RuntimeError as error:
            caught.append(str(error))
        aloop.call_soon_threadsafe(aloop.stop)

    thread = threading.Thread(target=run)
    aloop.call_soon(thread.start)
    aloop.run_forever()
    thread.join()
    assert caught == ["This event loop is already running"]


def test_in_a_thread(aloop):
    results = []
    thread = threading.Thread(target=lambda: results.append(aloop.run_until_complete(answer())))
    thread.start()
    thread.join()
    assert results == [42]
    assert aloop.run_until_complete(answer()) == 42


def test_run_until_complete(aloop):
    assert aloop.run_until_complete(answer()) == 42
    future = aloop.create_future()
    aloop.call_soon(future.set_exception, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        aloop.run_until_complete(future)
    aloop.call_soon(aloop.stop)
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        aloop.run_until_complete(aloop.create_future())


def test_closed(aloop):
    assert not aloop.is_closed()
    aloop.close()
    aloop.close()
    assert aloop.is_closed()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        aloop.run_forever()
    coroutine = answer()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        aloop.run_until_complete(coroutine)
    coroutine.close()
    aloop.stop()
    repr(aloop)
    assert aloop.time() > 0


def test_asynchronous_generators_are_shut_down(aloop):
    seen = []

    async def generator():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def main():
        async for _ in generator():
            break
        gc.collect()
        held = generator()
        await held.__anext__()
        kept.append(held)

    kept = []
    hooks = sys.get_asyncgen_hooks()
    aloop.run_until_complete(main())
    aloop.run_until_complete(aloop.shutdown_asyncgens())
    assert seen == ["closed", "closed"]
    assert sys.get_asyncgen_hooks() == hooks


def test_executor(aloop):
    assert aloop.run_until_complete(aloop.run_in_executor(None, lambda: 42)) == 42
    aloop.run_until_complete(aloop.shutdown_default_executor())


def test_dropped_inside_its_own_callback(factory):
    """Whoever runs it keeps it."""
    holder = [factory()]
    reference = weakref.ref(holder[0])

    def drop():
        loop = holder.pop()
        loop.call_soon(lambda: reference().stop())
        del loop
        gc.collect()
        assert reference() is not None

    holder[0].call_soon(drop)
    run = holder[0].run_forever
    run()
    loop = reference()
    loop.close()
    del run, loop
    gc.collect()
    assert reference() is None


def test_half_made():
    loop = pyev.EventLoop.__new__(pyev.EventLoop)
    for name in ("run_forever", "stop", "time", "_run"):
        with pytest.raises((RuntimeError, AttributeError)):
            getattr(loop, name)()
    with pytest.raises((RuntimeError, AttributeError)):
        loop.call_soon(print)
    loop.close()
    del loop
    gc.collect()


@pytest.mark.skipif(
    bool(pyev.supported_backends() & pyev.EVBACKEND_KQUEUE), reason="not refused here"
)
def test_refused_flags_leave_nothing(unraisable):
    refused = pyev.EVBACKEND_KQUEUE
    with pytest.raises(pyev.Error):
        pyev.EventLoop(refused)
    gc.collect()
    assert unraisable == []


def test_made_twice(ours):
    with pytest.raises(RuntimeError):
        ours.__init__()
    assert ours.run_until_complete(answer()) == 42


def test_subprocess(aloop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(6 * 7)", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return int(output), process.returncode

    if sys.version_info < (3, 12):
        asyncio.set_event_loop(aloop)
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(aloop)
        asyncio.set_child_watcher(watcher)
    try:
        assert aloop.run_until_complete(main()) == (42, 0)
    finally:
        if sys.version_info < (3, 12):
            asyncio.set_child_watcher(None)
            asyncio.set_event_loop(None)


def test_streams(aloop):
    async def echo(reader, writer):
        writer.write(await reader.read())
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        assert len(await reader.read()) == 1_000_000
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    aloop.run_until_complete(main())


def test_asyncios_own_run_is_replaced(ours, monkeypatch):
    """By tools that let asyncio's loops run inside each other, in their class."""
    for name in ("run_until_complete", "run_forever", "_run_once"):
        monkeypatch.setattr(asyncio.SelectorEventLoop, name, pytest.fail)
    assert ours.run_until_complete(answer()) == 42
    assert pyev.run(answer()) == 42
