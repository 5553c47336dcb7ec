"""A watcher lives as long as something in Python refers to it."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest

import pyev


def drop_with_warning(holder):
    """Empties `holder`, which has the last references to active or pending watchers."""
    with pytest.warns(ResourceWarning) as caught:
        holder.clear()
        gc.collect()
    messages = [str(warning.message) for warning in caught]
    # Each has its watcher; weak references to that are live still, from Python 3.15 on.
    del caught
    gc.collect()
    return messages


def test_start_takes_no_reference(loop, kind, calls, turn):
    holder = [kind.new(loop, calls)]
    gone = weakref.ref(holder[0])
    holder[0].start()
    drop_with_warning(holder)
    assert gone() is None
    assert turn() is False
    assert calls == []
    loop.verify()


def test_the_warning_names_the_watcher(loop, kind, calls):
    holder = [kind.new(loop, calls)]
    holder[0].start()
    (message,) = drop_with_warning(holder)
    assert kind.name in message


def test_dropping_a_stopped_watcher_is_silent(loop, kind, calls):
    watcher = kind.new(loop, calls)
    watcher.start()
    watcher.stop()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del watcher
        gc.collect()


def test_dropped_while_pending(loop, kind, calls, turn):
    holder = [kind.new(loop, calls)]
    holder[0].feed(pyev.EV_CUSTOM)
    drop_with_warning(holder)
    turn()
    assert loop.pending == 0
    assert calls == []


def test_dropped_while_active_and_pending(loop, kind, calls, turn):
    holder = [kind.new(loop, calls)]
    holder[0].start()
    holder[0].feed(pyev.EV_CUSTOM)
    drop_with_warning(holder)
    turn()
    assert calls == []


def test_dropped_in_its_own_callback(loop, kind, calls, turn):
    holder = []
    gone = []

    def callback(watcher, revents):
        gone.append(weakref.ref(watcher))
        holder.clear()
        gc.collect()
        assert watcher.loop is loop  # still ours while the callback runs
        calls.append(revents)

    holder.append(kind.new(loop, callback))
    holder[0].start()
    holder[0].feed(pyev.EV_CUSTOM)
    with pytest.warns(ResourceWarning):
        turn()
        gc.collect()
    assert len(calls) == 1
    assert gone[0]() is None
    assert turn() is False


def test_dropped_and_stopped_in_its_own_callback(loop, kind, calls, turn):
    holder = []

    def callback(watcher, revents):
        watcher.stop()
        holder.clear()
        calls.append(revents)

    holder.append(kind.new(loop, callback))
    holder[0].start()
    holder[0].feed(pyev.EV_CUSTOM)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        turn()
        gc.collect()
    assert len(calls) == 1


def test_dropped_while_others_of_its_batch_are_pending(loop, kind, calls, turn):
    holder = [kind.new(loop, calls) for _ in range(3)]

    def drop(watcher, revents):
        holder.clear()
        gc.collect()

    first = loop.idle(drop, priority=2)
    for watcher in (*holder, first):
        watcher.feed(pyev.EV_CUSTOM)
    del watcher
    with pytest.warns(ResourceWarning) as caught:
        turn()
    assert len(caught) == 3
    assert calls == []
    assert loop.pending == 0


def test_a_cycle_is_collected(loop, kind):
    watcher = kind.new(loop, print)
    watcher.data = watcher
    gone = weakref.ref(watcher)
    del watcher
    gc.collect()
    assert gone() is None


def test_a_cycle_through_the_callback_is_collected(loop, kind):
    class Owner:
        def __init__(self):
            self.watcher = kind.new(loop, self.callback)

        def callback(self, watcher, revents):
            pass

    owner = Owner()
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_an_active_cycle_is_collected(loop, kind, turn):
    called = []

    class Owner:
        def __init__(self):
            self.watcher = kind.new(loop, self.callback)
            self.watcher.start()

        def callback(self, watcher, revents):
            called.append(revents)

    holder = [Owner()]
    gone = weakref.ref(holder[0])
    drop_with_warning(holder)
    assert gone() is None
    assert turn() is False
    assert called == []


def test_a_cycle_of_loop_and_watcher_is_collected(kind):
    loop = pyev.Loop()
    watcher = kind.new(loop, print)
    loop.data = watcher
    gone = weakref.ref(loop), weakref.ref(watcher)
    del loop, watcher
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_an_active_cycle_of_loop_and_watcher_is_collected(kind, calls):
    holder = [pyev.Loop()]
    watcher = kind.new(holder[0], calls)
    watcher.start()
    holder[0].data = watcher
    gone = weakref.ref(holder[0]), weakref.ref(watcher)
    del watcher
    drop_with_warning(holder)
    assert [ref() for ref in gone] == [None, None]
    assert calls == []


def test_a_cycle_through_the_callback_of_the_loop_is_collected():
    loop = pyev.Loop()
    loop.callback = lambda it, loop=loop: loop.invoke()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_a_finalizer_that_uses_the_loop(loop, kind, calls, turn):
    """What is released last may come back to the loop that is releasing."""
    other = loop.timer(1000.0, 0.0, calls)

    class Awkward:
        def __del__(self):
            other.start()
            loop.verify()
            other.stop()
            calls.append("finalized")

    holder = [kind.new(loop, lambda watcher, revents: None, Awkward())]
    holder[0].start()
    drop_with_warning(holder)
    assert calls == ["finalized"]
    assert turn() is False


def test_data_that_uses_its_watcher_when_replaced(loop, kind):
    seen = []

    class Awkward:
        def __del__(self):
            seen.append(watcher.data)

    watcher = kind.new(loop, print, Awkward())
    watcher.data = "new"
    assert seen == ["new"]


def test_init_again_that_runs_finalizers(loop, kind, calls):
    seen = []

    class Awkward:
        def __call__(self, watcher, revents):
            raise AssertionError

        def __del__(self):
            seen.append(watcher.callback)

    watcher = kind.new(loop, Awkward())
    watcher.__init__(*kind.args, loop, calls)
    assert seen == [calls]


def test_the_loop_dropped_in_a_callback(calls):
    def callback(watcher, revents):
        holder.clear()
        gc.collect()
        calls(watcher.loop.depth, revents)
        watcher.loop.stop()

    holder = [pyev.Loop()]
    holder.append(holder[0].timer(0.0, 0.001, callback))
    holder[1].start()
    gone = weakref.ref(holder[0])
    with pytest.warns(ResourceWarning):
        holder[0].start()
        gc.collect()
    assert calls == [(1, pyev.EV_TIMER)]
    assert gone() is None


def test_a_watcher_resurrected_by_a_finalizer(loop, kind, calls, turn):
    saved = []

    class Phoenix(kind.cls):
        def __del__(self):
            saved.append(self)

    holder = [Phoenix(*kind.args, loop, calls)]
    holder[0].start()
    holder.clear()
    gc.collect()
    (watcher,) = saved
    assert watcher.loop is loop
    watcher.stop()
    watcher.start()
    watcher.feed(pyev.EV_CUSTOM)
    turn()
    assert calls[0][0] is watcher
    watcher.stop()
    calls.clear()
    del watcher
    saved.clear()
    gc.collect()


def test_exit_with_active_watchers(script):
    """Watchers alive when the interpreter ends: nothing is called, nothing crashes."""
    script("""
        import warnings, pyev
        warnings.simplefilter("ignore", ResourceWarning)
        def callback(watcher, revents): raise SystemExit(3)
        loop = pyev.default_loop()
        kept = [loop.timer(0.0, 0.001, callback), loop.idle(callback), loop.io(0, 1, callback),
                loop.signal(10, callback), loop.child(0, False, callback), loop.fork(callback),
                loop.stat("/", 0.0, callback), loop.async_(callback), loop.cleanup(callback)]
        for watcher in kept:
            watcher.start()
        kept.append(kept)
    """)


def test_exit_with_a_daemon_thread_inside_start(script):
    script("""
        import threading, pyev
        loop = pyev.Loop()
        running = threading.Event()
        def callback(watcher, revents):
            running.set()
        timer = loop.timer(0.0, 0.0, callback)
        keep = loop.timer(1000.0, 0.0, callback)
        timer.start()
        keep.start()
        threading.Thread(target=loop.start, daemon=True).start()
        running.wait()
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
    """)


def test_a_long_chain_of_watchers(loop):
    """Each is the next one's data, and all go at once."""
    watcher = None
    for _ in range(300_000):
        watcher = loop.timer(1.0, 0.0, print, watcher)
    del watcher
