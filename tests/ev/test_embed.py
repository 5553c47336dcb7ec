"""Embed: one loop inside another."""

from __future__ import annotations

import gc
import weakref

import pytest

import pyev

EMBEDDABLE = pyev.embeddable_backends() & pyev.recommended_backends()
NOT_EMBEDDABLE = pyev.EVBACKEND_POLL


@pytest.fixture
def other(request):
    if not EMBEDDABLE:
        pytest.skip("no embeddable backend here")
    loop = pyev.Loop(EMBEDDABLE)
    yield loop
    loop.close()


def until(loop, ready):
    while not ready():
        loop.start(pyev.EVRUN_ONCE)


@pytest.mark.every_backend
def test_the_outer_loop_runs_the_inner(loop, other, pair, calls):
    a, b = pair
    with other.io(a, pyev.EV_READ, calls) as inner, loop.embed(other):
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == []
        b.send(b"x")
        until(loop, lambda: calls)
        assert calls[0] == (inner, pyev.EV_READ)


def test_with_a_callback_that_sweeps(loop, other, pair, calls):
    a, b = pair
    swept = []

    def callback(watcher, revents):
        swept.append((watcher, revents))
        assert watcher.sweep() is None

    with other.io(a, pyev.EV_READ, calls) as inner, loop.embed(other, callback) as embed:
        b.send(b"x")
        until(loop, lambda: calls)
    assert calls[0] == (inner, pyev.EV_READ)
    assert swept[0] == (embed, pyev.EV_EMBED)


def test_with_a_callback_that_does_not_sweep(loop, other, pair, calls):
    a, b = pair
    swept = []
    with other.io(a, pyev.EV_READ, calls), loop.embed(other, lambda *args: swept.append(args)):
        # Here libev looks at the inner loop itself, because its descriptors have changed.
        loop.start(pyev.EVRUN_NOWAIT)
        b.send(b"x")
        until(loop, lambda: swept)
    assert calls == []


def test_sweep_by_hand(loop, other, pair, calls):
    a, b = pair
    b.send(b"x")
    with other.io(a, pyev.EV_READ, calls):
        watcher = loop.embed(other)
        watcher.sweep()
        assert calls.revents == [pyev.EV_READ]


def test_watchers_started_inside_later(loop, other, pair, calls):
    a, b = pair
    with loop.embed(other):
        loop.start(pyev.EVRUN_NOWAIT)
        b.send(b"x")
        with other.io(a, pyev.EV_READ, calls) as inner:
            until(loop, lambda: calls)
            assert calls[0] == (inner, pyev.EV_READ)


def test_other(loop, other):
    watcher = loop.embed(other)
    assert watcher.other is other
    with pytest.raises(AttributeError):
        watcher.other = other
    third = pyev.Loop(EMBEDDABLE)
    watcher.set(third)
    assert watcher.other is third
    watcher.set(other)
    third.close()


def test_other_is_kept(loop):
    watcher = loop.embed(pyev.Loop(EMBEDDABLE, data="kept"))
    gc.collect()
    assert watcher.other.data == "kept"
    gone = weakref.ref(watcher.other)
    del watcher
    gc.collect()
    assert gone() is None


def test_keyword(loop, other, calls):
    watcher = pyev.Embed(loop=loop, other=other, callback=calls, data=1, priority=1)
    assert (watcher.loop, watcher.other, watcher.callback) == (loop, other, calls)


def test_a_loop_that_cannot_be_embedded(loop, other):
    with pyev.Loop(NOT_EMBEDDABLE) as poll:
        with pytest.raises(pyev.Error, match="embed"):
            loop.embed(poll)
        watcher = loop.embed(other)
        with pytest.raises(pyev.Error, match="embed"):
            watcher.set(poll)
        assert watcher.other is other


def test_a_loop_inside_itself(other):
    with pytest.raises(pyev.Error, match="itself"):
        other.embed(other).start()
    assert other.start(pyev.EVRUN_NOWAIT) is False


def test_a_loop_that_asyncio_runs(loop):
    event_loop = pyev.EventLoop(EMBEDDABLE)
    watcher = loop.embed(event_loop.ev)
    for refused in (watcher.start, watcher.sweep):
        with pytest.raises(RuntimeError, match="asyncio"):
            refused()
    assert not watcher.active
    with pyev.Loop(EMBEDDABLE) as other, event_loop.ev.embed(other) as embedded:
        assert embedded.active
    event_loop.close()


@pytest.mark.parametrize("wrong", [None, 1, "loop"])
def test_something_that_is_no_loop(loop, other, wrong):
    with pytest.raises(TypeError, match=r"[Ll]oop"):
        loop.embed(wrong)
    watcher = loop.embed(other)
    with pytest.raises(TypeError, match=r"[Ll]oop"):
        watcher.set(wrong)
    assert watcher.other is other


def test_a_closed_loop_inside(loop, other):
    watcher = loop.embed(other)
    other.close()
    with pytest.raises(pyev.Error, match="closed"):
        watcher.start()
    with pytest.raises(pyev.Error, match="closed"):
        watcher.sweep()
    with pytest.raises(pyev.Error, match="closed"):
        loop.embed(other)
    assert loop.start(pyev.EVRUN_NOWAIT) is False


def test_the_inner_loop_closed_while_embedded(loop, other, pair, calls):
    """Refused, or the Embed ends: never a crash, and the outer loop goes on."""
    a, b = pair
    watcher = loop.embed(other)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)
    try:
        other.close()
    except pyev.Error:
        assert watcher.active
    else:
        assert not watcher.active
    with loop.io(a, pyev.EV_READ, calls):
        b.send(b"x")
        until(loop, lambda: calls)
    watcher.stop()
    loop.verify()


def test_the_outer_loop_closed(other, pair, calls):
    a, b = pair
    with pyev.Loop() as loop:
        watcher = loop.embed(other)
        watcher.start()
        loop.start(pyev.EVRUN_NOWAIT)
    assert not watcher.active
    with other.io(a, pyev.EV_READ, calls):
        b.send(b"x")
        until(other, lambda: calls)


@pytest.mark.parametrize("debug", [False, True])
def test_an_exception_inside(loop, other, pair, unraisable, debug):
    """A callback of the inner loop that raises is reported by that loop's rules, and not lost."""
    a, b = pair

    class Mine(Exception):
        pass

    def callback(watcher, revents):
        watcher.stop()
        raise Mine

    loop.debug = other.debug = debug
    b.send(b"x")
    io = other.io(a, pyev.EV_READ, callback)
    io.start()
    with loop.embed(other):
        if debug:
            with pytest.raises(Mine):
                until(loop, lambda: not io.active)
            assert unraisable == []
        else:
            until(loop, lambda: not io.active)
            assert [type(report.exc_value) for report in unraisable] == [Mine]


def test_without_a_callback_set_later(loop, other, pair, calls):
    a, b = pair
    seen = []
    with other.io(a, pyev.EV_READ, calls) as inner, loop.embed(other) as embed:
        embed.callback = lambda watcher, revents: seen.append(revents)
        loop.start(pyev.EVRUN_NOWAIT)
        b.send(b"x")
        until(loop, lambda: seen)
        assert calls == []
        embed.callback = None
        until(loop, lambda: calls)
        assert calls[0] == (inner, pyev.EV_READ)
