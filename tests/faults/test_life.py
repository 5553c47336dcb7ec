"""Loops and watchers that outlive one another."""

import contextlib
import gc
import weakref

import fault_kit as kit
from fault_harness import scenario

import pyev

# 42. Loops and watchers that outlive one another.


@scenario("C42", how=["name", "cycle", "own callback", "attribute"])
def test_a_loop_dropped_while_it_runs(how: str) -> None:
    loop = kit.new_loop()
    reference = weakref.ref(loop)
    ran: list[int] = []
    holder: dict[str, object] = {"loop": loop}

    def drop(watcher: pyev.Watcher, revents: int) -> None:
        ran.append(1)
        holder.clear()
        with kit.dropping():
            del watcher
            gc.collect()

    def second(watcher: pyev.Watcher, revents: int) -> None:
        ran.append(2)

    holder["watcher"] = loop.timer(0.0, 0.0, drop, None, 2)
    holder["watcher"].start()  # type: ignore[attr-defined]
    follower = [loop.timer(0.0, 0.0, second)]
    follower[0].start()
    if how == "own callback":
        loop.callback = lambda loop: (setattr(loop, "callback", None), loop.invoke())
    elif how == "cycle":
        loop.data = loop
    elif how == "attribute":
        loop.data = holder
    start = loop.start
    del loop
    start(kit.NOWAIT)
    assert ran == [1, 2]
    del start
    follower.clear()
    gc.collect()
    assert reference() is None


@scenario("C42")
def test_a_watcher_keeps_its_loop() -> None:
    loop = kit.new_loop()
    reference = weakref.ref(loop)
    timer = loop.timer(0.0, 0.0, kit.nothing)
    timer.start()
    del loop
    gc.collect()
    assert timer.loop is reference()
    kit.works(timer.loop)
    del timer
    gc.collect()
    assert reference() is None


@scenario("C42", order=["loop first", "watchers first", "together"], run=[False, True])
def test_everything_active_is_dropped(order: str, run: bool) -> None:
    loop = kit.new_loop()
    watchers = kit.busy_loop(loop)
    if run:
        kit.turns(loop, 3)
    with kit.dropping():
        if order == "loop first":
            del loop
            gc.collect()
            watchers.clear()
        elif order == "watchers first":
            watchers.clear()
            gc.collect()
            loop.verify()
            kit.works(loop)
            del loop
        else:
            loop.data = watchers
            for watcher in watchers:
                watcher.data = watchers
            del watcher, watchers, loop
    gc.collect()


@scenario("C42")
def test_every_kind_dropped_alone_while_active_pending_or_both() -> None:
    with kit.new_loop() as loop:
        with kit.dropping():
            count = len(kit.busy_loop(loop))
        for index in range(count):
            for fed in (False, True):
                for active in (False, True):
                    for cycle in (False, True):
                        watchers = kit.busy_loop(loop, kit.never if fed else kit.nothing)
                        watcher = watchers.pop(index)
                        if isinstance(watcher, pyev.Once):
                            watcher.callback = kit.nothing  # Its loop keeps it until it is called.
                        for other in watchers:
                            other.stop()
                        if not active:
                            watcher.stop()
                        if fed:
                            watcher.feed(pyev.EV_CUSTOM)
                        if cycle:
                            watcher.data = watcher
                        with kit.dropping():
                            del watcher, other
                            watchers.clear()
                        loop.verify()
                        kit.turns(loop)
                        kit.clean_up()
        kit.works(loop)


@scenario("C42")
def test_dropped_while_others_of_the_batch_are_pending() -> None:
    with kit.new_loop() as loop:
        called: list[object] = []
        fds = [kit.pair() for _ in range(20)]
        watchers: dict[int, pyev.Watcher] = {}

        def callback(watcher: pyev.Watcher, revents: int) -> None:
            called.append(watcher.data)
            with kit.dropping():
                for number in range(20):
                    if number != watcher.data:
                        watchers.pop(number, None)

        for number, (fd, _) in enumerate(fds):
            watchers[number] = loop.io(fd, pyev.EV_WRITE, callback, number)
            watchers[number].start()
        kit.turns(loop)
        assert len(called) == 1, called
        loop.verify()
        with kit.dropping():
            watchers.clear()
        kit.works(loop)


@scenario("C42")
def test_a_watcher_after_its_loop_is_closed() -> None:
    loop = kit.new_loop()
    watchers = kit.busy_loop(loop)
    loop.close()
    for watcher in watchers:
        assert not watcher.active and not watcher.pending
        assert watcher.loop is loop
        repr(watcher)
        watcher.stop()
        kit.raises(pyev.Error, watcher.start)
        for name in ("reset", "sweep", "send", "stat"):
            method = getattr(watcher, name, None)
            if method:
                with contextlib.suppress(pyev.Error, OSError):
                    method()
        for name in ("remaining", "at", "sent", "priority", "data", "callback", "fd", "keepalive"):
            with contextlib.suppress(pyev.Error):
                getattr(watcher, name, None)
        for method in (watcher.feed, watcher.invoke):
            with contextlib.suppress(pyev.Error):
                method(pyev.EV_CUSTOM)
        with contextlib.suppress(pyev.Error):
            watcher.clear()
        for name, value in (("priority", 1), ("keepalive", False), ("repeat", 1.0)):
            with contextlib.suppress(pyev.Error, AttributeError):
                setattr(watcher, name, value)
    for name in dir(loop):
        if name.startswith("_") or name in ("closed", "close", "data", "default"):
            continue
        try:
            value = getattr(loop, name)
            if callable(value) and name in ("start", "invoke", "reset", "update", "verify", "now"):
                kit.raises(pyev.Error, value)
        except pyev.Error:
            pass
    for call in (
        lambda: loop.start(),
        lambda: loop.timer(1.0, 0.0, kit.nothing).start(),
        lambda: loop.once(None, 0, 1.0, kit.nothing),
        lambda: loop.feed_fd_event(0, 1),
        lambda: pyev.Timer(1.0, 0.0, loop, kit.nothing).start(),
        lambda: loop.__enter__(),
        lambda: loop.ref(),
        lambda: loop.unref(),
        lambda: loop.suspend(),
        lambda: loop.resume(),
        lambda: loop.stop(),
        lambda: loop.feed_signal_event(10),
    ):
        kit.raises(pyev.Error, call)
    assert loop.closed
    repr(loop)
    loop.close()
    # They may move to a loop that lives.
    with kit.new_loop() as other:
        timer = watchers[2]
        timer.__init__(0.0, 0.0, other, kit.nothing)
        timer.start()
        kit.until(other, lambda: not timer.active)
        kit.works(other)


@scenario("C42")
def test_resurrected_watchers() -> None:
    saved: list[pyev.Watcher] = []

    class Phoenix(pyev.Timer):
        def __del__(self) -> None:
            saved.append(self)

    with kit.new_loop() as loop:
        log = kit.Log()
        for cycle in (False, True):
            watcher = Phoenix(0.0, 0.0, loop, log)
            watcher.start()
            if cycle:
                watcher.data = watcher
            with kit.dropping():
                del watcher
            (back,) = saved
            saved.clear()
            loop.verify()
            kit.turns(loop)
            back.stop()
            back.start()
            before = len(log)
            kit.turns(loop, 2)
            assert len(log) == before + 1
            back.data = None
            with kit.dropping():
                del back
            saved.clear()
            gc.collect()
        kit.works(loop)


class Finalized(pyev.Timer):
    def __del__(self) -> None:
        pass  # and not its base's, which would stop it


@scenario("C42", kind=["Timer", "Finalized"])
def test_weak_references_die_before_callbacks_do(kind: str) -> None:
    with kit.new_loop() as loop:
        seen: list[object] = []
        timer = {"Timer": pyev.Timer, "Finalized": Finalized}[kind](0.0, 0.0, loop, kit.never)
        timer.start()
        reference = weakref.ref(timer, lambda r: (seen.append(r()), loop.start(kit.NOWAIT)))
        with kit.dropping():
            del timer
        assert seen == [None] and reference() is None
        kit.works(loop)


@scenario("C42")
def test_attributes_die_before_callbacks_do() -> None:
    with kit.new_loop() as loop:
        turned: list[bool] = []
        for _ in range(20):
            timer = Finalized(0.0, 0.0, loop, kit.never)
            timer.start()
            timer.last = kit.Garbage([lambda: turned.append(loop.start(kit.NOWAIT))])
            timer.last.me = None
            with kit.dropping():
                del timer
        assert len(turned) == 20
        kit.works(loop)
