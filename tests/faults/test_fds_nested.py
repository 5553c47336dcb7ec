"""Loops and epoll sets that watch each other."""

import asyncio
import errno
import gc
import os
import select

import fault_kit as kit
from fault_harness import scenario

import pyev
from pyev import EV_READ

# More of the same: loops that watch each other.


def epoll_chain(length: int) -> list[int]:
    """Descriptors of epoll sets, each watching the one before."""
    fds = [kit.pipe()[0]]
    for _ in range(length):
        outer = kit.opened(os.dup((e := select.epoll()).fileno()))
        e.register(fds[-1], select.EPOLLIN)
        e.close()
        fds.append(outer)
    return fds


def survives(loop: pyev.Loop, watcher: pyev.Watcher) -> None:
    """Starting and serving it may fail, but only in Python."""
    try:
        watcher.start()
    except (OSError, pyev.Error):
        assert not watcher.active
    for error in kit.drain(loop):
        assert isinstance(error, OSError | pyev.Error), repr(error)
    watcher.stop()
    for error in kit.drain(loop):
        assert isinstance(error, OSError | pyev.Error), repr(error)


@scenario("A1", "A6")
def test_a_loop_watching_its_own_descriptors() -> None:
    loop, fds = kit.fds_of(kit.new_loop)
    for fd in fds:
        survives(loop, loop.io(fd, EV_READ, kit.nothing))
    timer = loop.periodic(0.0, 3600.0, kit.nothing)
    timer.start()
    for fd in kit.open_fds():
        if fd > 2:
            survives(loop, loop.io(fd, EV_READ, kit.nothing))
    kit.works(loop)
    loop.close()


@scenario("A1", "A6")
def test_a_loop_watching_its_own_descriptors_of_other_numbers() -> None:
    """Where one was, the next reset() may put one of another kind."""
    low = [kit.opened(os.open(os.devnull, os.O_RDONLY)) for _ in range(4)]
    loop = kit.new_loop()
    with loop.stat("/", 0.0, kit.nothing), loop.periodic(0.0, 1e6, kit.nothing):
        for fd in low:
            kit.turns(loop)
            own = [
                fd
                for fd, target in kit.open_fds().items()
                if "inotify" in target or "timerfd" in target
            ]
            assert len(own) == 2
            for number in own:
                kit.bad_fd(loop.io(number, EV_READ, kit.nothing).start)
            kit.forget(fd)
            loop.reset()
    kit.works(loop)
    loop.close()


@scenario("A6", "A2", backends=["epoll"])
def test_an_embedded_loop_is_lost_and_who_is_told_drops_it() -> None:
    def polls() -> set[int]:
        return {fd for fd, target in kit.open_fds().items() if "eventpoll" in target}

    def lose() -> None:
        kit.opened(os.open(os.devnull, os.O_RDONLY))  # the number that it had
        inner.reset()
        kit.turns(inner)
        [lost] = polls() - outer
        os.close(lost)
        loop.call_later(0.01, loop.stop)

    def drop(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        told.append(type(context["exception"]))
        context.clear()
        watchers.clear()
        gc.collect()

    told: list[type] = []
    loop = pyev.EventLoop(pyev.EVBACKEND_EPOLL)
    loop.run_until_complete(asyncio.sleep(0.001))
    outer, inner = polls(), kit.new_loop()
    watchers = [loop.ev.embed(inner)]
    watchers[0].start()
    loop.set_exception_handler(drop)
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.call_soon(lose)
    loop.run_forever()
    assert len(told) == 1 and not watchers
    inner.close()
    loop.close()


@scenario("A1", "A6", length=[1, 2, 3, 4, 5])
def test_epoll_sets_nested_too_deep(length: int) -> None:
    with kit.new_loop() as loop:
        for fd in epoll_chain(length):
            survives(loop, loop.io(fd, EV_READ, kit.nothing))
        kit.works(loop)


@scenario("A1", "A6", moment=["before start", "before the turn", "after the turn", "and reset"])
def test_a_cycle_of_epoll_sets_through_the_loop(moment: str) -> None:
    loop, fds = kit.fds_of(kit.new_loop)
    polled = [fd for fd, target in fds.items() if "eventpoll" in target]
    for backend_fd in polled:
        with select.epoll() as outer:
            watcher = loop.io(outer.fileno(), EV_READ, kit.nothing)
            try:
                if moment == "before start":
                    outer.register(backend_fd, select.EPOLLIN)
                watcher.start()
                if moment != "before the turn":
                    kit.drain(loop)
                if moment != "before start":
                    outer.register(backend_fd, select.EPOLLIN)
            except OSError as error:
                assert error.errno in (errno.ELOOP, errno.EINVAL), error
            if moment == "and reset":
                loop.reset()
            for error in kit.drain(loop):
                assert isinstance(error, OSError), repr(error)
            watcher.stop()
        kit.drain(loop)
    kit.works(loop)
    loop.close()


@scenario("A1", "A6", length=[2, 3, 4, 5, 6, 7])
def test_a_chain_and_a_ring_of_embedded_loops(length: int) -> None:
    # The kernel nests five epoll sets: a longer chain is told so inside an inner loop's turn.
    with kit.Unraisable():
        loops = [kit.new_loop() for _ in range(length)]
        embeds = []
        for outer, inner in zip(loops, [*loops[1:], loops[0]], strict=True):
            try:
                embed = outer.embed(inner)
                embed.start()
                embeds.append(embed)
            except (pyev.Error, OSError, ValueError):
                pass
        for loop in loops:
            for error in kit.drain(loop):
                assert isinstance(error, OSError | pyev.Error), repr(error)
        for loop in loops:
            loop.reset()
        for loop in loops:
            for error in kit.drain(loop):
                assert isinstance(error, OSError | pyev.Error), repr(error)
        for embed in embeds:
            embed.stop()
        for loop in loops:
            kit.drain(loop)
            kit.works(loop)
            loop.close()


@scenario("A6")
def test_a_loop_embedded_in_itself() -> None:
    with kit.new_loop() as loop:
        try:
            embed = loop.embed(loop)
            embed.start()
        except (pyev.Error, OSError, ValueError):
            pass
        else:
            for error in kit.drain(loop):
                assert isinstance(error, OSError | pyev.Error), repr(error)
            embed.stop()
        kit.works(loop)
