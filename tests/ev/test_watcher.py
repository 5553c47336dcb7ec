"""Everything that the fourteen kinds of watchers share."""

from __future__ import annotations

import contextlib
import gc
import types
import weakref

import pytest

import pyev

# Making


def test_constructor_by_position(loop, kind):
    data = object()
    watcher = kind.cls(*kind.args, loop, print, data, 1)
    assert watcher.loop is loop
    assert watcher.callback is print
    assert watcher.data is data
    assert watcher.priority == 1
    assert watcher.keepalive is True
    assert watcher.active is False
    assert watcher.pending is False


def test_constructor_by_keyword(loop, kind):
    data = object()
    watcher = kind.cls(
        keepalive=False, priority=-1, data=data, callback=print, loop=loop, **kind.keywords
    )
    assert watcher.loop is loop
    assert watcher.callback is print
    assert watcher.data is data
    assert watcher.priority == -1
    assert watcher.keepalive is False


def test_defaults(loop, kind):
    watcher = kind.new(loop, print)
    assert watcher.data is None
    assert watcher.priority == 0
    assert watcher.keepalive is True


def test_keepalive_is_keyword_only(loop, kind):
    with pytest.raises(TypeError):
        kind.new(loop, print, None, 0, True)


def test_missing_arguments(loop, kind):
    with pytest.raises(TypeError):
        kind.cls()
    with pytest.raises(TypeError):
        kind.cls(*kind.args)
    if kind.name != "Embed":
        for make in (
            lambda: kind.cls(*kind.args, loop),
            lambda: getattr(loop, kind.factory)(*kind.args),
        ):
            with pytest.raises(TypeError, match=r"missing required argument 'callback'$"):
                make()
    for name in kind.names:
        keywords = kind.keywords
        del keywords[name]
        if (kind.name, name) == ("Stat", "interval"):
            assert kind.cls(**keywords, loop=loop, callback=print).interval == 0.0
            continue
        with pytest.raises(TypeError, match=name):
            kind.cls(**keywords, loop=loop, callback=print)


def test_a_coroutine_function_is_no_callback(loop, kind):
    class Object:
        async def method(self, watcher, revents):
            pass

        async def generator(self, watcher, revents):
            yield

    if kind.name == "Embed":
        return
    why = r"callback must not be a coroutine function: make a task in the callback"
    watcher = kind.new(loop, print)
    for callback in (Object.method, Object().method, Object().generator):
        with pytest.raises(TypeError, match=why):
            kind.new(loop, callback)
        with pytest.raises(TypeError, match=why):
            watcher.callback = callback
    assert watcher.callback is print


def test_an_event_loop_is_no_loop(kind):
    with (
        contextlib.closing(pyev.new_event_loop()) as loop,
        pytest.raises(TypeError, match=r"not 'EventLoop': its ev is one$"),
    ):
        kind.new(loop, print)


def test_an_argument_given_twice(loop, kind):
    with pytest.raises(TypeError):
        kind.cls(*kind.args, loop, print, callback=print)


def test_an_unknown_argument(loop, kind):
    with pytest.raises(TypeError, match="nonsense"):
        kind.new(loop, print, nonsense=1)


@pytest.mark.parametrize("name", [1, 1.5, b"loop", None, (1, 2)])
def test_a_keyword_that_is_no_string(loop, kind, name):
    class Mine(kind.cls):
        pass

    with pytest.raises(TypeError, match="keywords must be strings"):
        Mine(**{name: loop})
    with pytest.raises(TypeError, match="keywords must be strings"):
        kind.new(loop, print).__init__(**{name: loop})


@pytest.mark.parametrize("wrong", [None, 1, "loop", object(), pyev.Loop])
def test_a_loop_that_is_none(kind, wrong):
    with pytest.raises(TypeError, match=r"[Ll]oop"):
        kind.cls(*kind.args, wrong, print)


@pytest.mark.parametrize("wrong", [1, "print", object()])
def test_a_callback_that_cannot_be_called(loop, kind, wrong):
    with pytest.raises(TypeError, match="callback"):
        kind.new(loop, wrong)


def test_a_callback_is_required(loop, kind):
    if kind.name == "Embed":
        assert kind.new(loop, None).callback is None
        assert kind.cls(*kind.args, loop).callback is None
    else:
        with pytest.raises(TypeError, match="callback"):
            kind.new(loop, None)


def test_a_priority_of_a_wrong_type(loop, kind):
    for wrong in ("high", None, 1.0):
        with pytest.raises(TypeError):
            kind.new(loop, print, None, wrong)
    for wrong in (2**31, -(2**31) - 1, 2**80, 10**5000):
        with pytest.raises(OverflowError):
            kind.new(loop, print, None, wrong)


def test_a_closed_loop(kind):
    closed = pyev.Loop()
    closed.close()
    with pytest.raises(pyev.Error, match="closed"):
        kind.new(closed, print)


def test_the_base_cannot_be_instantiated(loop):
    with pytest.raises(TypeError):
        pyev.Watcher()
    with pytest.raises(TypeError):
        pyev.Watcher(loop, print)
    with pytest.raises(TypeError):
        pyev.Watcher.__new__(pyev.Watcher)
    with pytest.raises(TypeError):
        type("Mine", (pyev.Watcher,), {})(loop, print)


def test_every_kind_is_a_watcher(loop, kind):
    assert issubclass(kind.cls, pyev.Watcher)
    assert isinstance(kind.new(loop, print), pyev.Watcher)
    assert kind.cls.__name__ == kind.name
    assert kind.cls.__module__.startswith("pyev")


def test_subclass(loop, kind, calls):
    class Mine(kind.cls):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = "extra"

    watcher = Mine(*kind.args, loop, calls)
    assert watcher.extra == "extra"
    watcher.feed(pyev.EV_CUSTOM)
    loop.invoke()
    assert calls == [(watcher, pyev.EV_CUSTOM)]


def test_subclass_whose_callback_is_a_method(loop, kind):
    seen = []

    class Mine(kind.cls):
        def __init__(self, *args):
            super().__init__(*args, self.on_event)

        def on_event(self, watcher, revents):
            seen.append((watcher is self, revents))

    watcher = Mine(*kind.args, loop)
    watcher.feed(pyev.EV_CUSTOM)
    loop.invoke()
    assert seen == [(True, pyev.EV_CUSTOM)]
    gone = weakref.ref(watcher)
    del watcher
    gc.collect()
    assert gone() is None


def half_built(kind, how):
    if how == "new":
        return kind.cls.__new__(kind.cls)
    return type("Forgetful", (kind.cls,), {"__init__": lambda self: None})()


@pytest.mark.parametrize("how", ["new", "forgetful subclass"])
def test_half_built(kind, how):
    watcher = half_built(kind, how)
    methods = {
        "start": (),
        "stop": (),
        "invoke": (pyev.EV_CUSTOM,),
        "feed": (pyev.EV_CUSTOM,),
        "clear": (),
        "set": kind.args,
        "reset": (),
        "stat": (),
        "sweep": (),
        "send": (),
        "__enter__": (),
    }
    for name, arguments in methods.items():
        if hasattr(kind.cls, name):
            with pytest.raises((pyev.Error, TypeError)):
                getattr(watcher, name)(*arguments)
    for name in dir(kind.cls):
        if not name.startswith("_") and name not in methods:
            for access in (
                lambda name=name: getattr(watcher, name),
                lambda name=name: setattr(watcher, name, 1),
                lambda name=name: delattr(watcher, name),
            ):
                with contextlib.suppress(pyev.Error, TypeError, AttributeError, ValueError):
                    access()
    repr(watcher)
    gc.collect()


@pytest.mark.parametrize("how", ["new", "forgetful subclass"])
def test_half_built_can_be_completed(loop, kind, how, calls):
    watcher = half_built(kind, how)
    kind.cls.__init__(watcher, *kind.args, loop, calls)
    watcher.feed(pyev.EV_CUSTOM)
    loop.invoke()
    assert calls == [(watcher, pyev.EV_CUSTOM)]


def test_a_constructor_that_failed_can_be_tried_again(loop, kind, calls):
    watcher = kind.cls.__new__(kind.cls)
    with pytest.raises(TypeError):
        watcher.__init__(*kind.args, loop, "not callable")
    with pytest.raises((pyev.Error, TypeError)):
        watcher.start()
    watcher.__init__(*kind.args, loop, calls)
    watcher.start()
    assert watcher.active
    watcher.stop()


# __init__ again


def test_init_again(loop, kind, calls):
    watcher = kind.new(loop, print, "first", 1)
    watcher.__init__(*kind.args, loop, calls, "second", 2)
    assert watcher.callback is calls
    assert watcher.data == "second"
    assert watcher.priority == 2
    watcher.start()
    assert watcher.active
    watcher.stop()


def test_init_again_keeps_data_not_given(loop, kind):
    data = object()
    watcher = kind.new(loop, print, data)
    watcher.__init__(*kind.args, loop, print)
    assert watcher.data is data
    watcher.__init__(*kind.args, loop, print, None)
    assert watcher.data is None


def test_init_again_on_another_loop(loop, kind, new_loop, calls):
    other = new_loop()
    watcher = kind.new(loop, calls)
    watcher.start()
    watcher.stop()
    watcher.__init__(*kind.args, other, calls)
    assert watcher.loop is other
    watcher.start()
    assert watcher.active
    watcher.feed(pyev.EV_CUSTOM)
    loop.invoke()
    assert calls == []
    other.invoke()
    assert calls == [(watcher, pyev.EV_CUSTOM)]
    watcher.stop()


def test_init_while_active_is_refused(loop, kind, new_loop, calls):
    watcher = kind.new(loop, calls, "data", 1)
    other = new_loop()
    watcher.start()
    for target in (loop, other):
        with pytest.raises(pyev.Error, match="active"):
            watcher.__init__(*kind.args, target, print, "other", 2)
    assert watcher.active
    assert watcher.loop is loop
    assert watcher.callback is calls
    assert watcher.data == "data"
    assert watcher.priority == 1
    watcher.stop()


def test_init_while_only_pending_clears(loop, kind, calls):
    watcher = kind.new(loop, calls)
    watcher.feed(pyev.EV_CUSTOM)
    watcher.__init__(*kind.args, loop, calls)
    assert not watcher.pending
    loop.invoke()
    assert calls == []


def test_init_while_pending_moves_to_another_loop(loop, kind, new_loop, calls):
    other = new_loop()
    watcher = kind.new(loop, calls)
    watcher.feed(pyev.EV_CUSTOM)
    watcher.__init__(*kind.args, other, calls)
    loop.invoke()
    other.invoke()
    assert calls == []


def test_init_that_fails_changes_nothing(loop, kind, calls):
    watcher = kind.new(loop, calls, "data", 1)
    with pytest.raises(TypeError):
        watcher.__init__(*kind.args, loop, "not callable", "other", 2)
    assert watcher.callback is calls
    assert watcher.data == "data"
    assert watcher.priority == 1
    watcher.feed(pyev.EV_CUSTOM)
    loop.invoke()
    assert len(calls) == 1


# start, stop


def test_start_and_stop(loop, kind, calls):
    watcher = kind.new(loop, calls)
    assert watcher.start() is None
    assert watcher.active is True
    assert watcher.start() is None
    assert watcher.active is True
    assert watcher.stop() is None
    assert watcher.active is False
    assert watcher.stop() is None
    loop.verify()


def test_an_active_watcher_keeps_the_loop_running(loop, turn, kind, calls):
    watcher = kind.new(loop, calls)
    watcher.start()
    # libev never lets Cleanup watchers keep a loop.
    assert turn() is (kind.name != "Cleanup")
    watcher.stop()
    assert turn() is False


def test_start_takes_no_arguments(loop, kind):
    watcher = kind.new(loop, print)
    for method in (watcher.start, watcher.stop, watcher.clear):
        with pytest.raises(TypeError):
            method(1)
    assert not watcher.active


def test_started_and_stopped_many_times(loop, kind, calls, turn):
    watcher = kind.new(loop, calls)
    for n in range(50):
        watcher.start()
        if n % 10 == 0:
            turn()
        watcher.stop()
    assert turn() is False
    loop.verify()


def test_stopped_in_its_own_callback(loop, kind, turn, calls):
    def callback(watcher, revents):
        watcher.stop()
        calls(watcher, revents)

    watcher = kind.new(loop, callback)
    watcher.start()
    watcher.feed(pyev.EV_CUSTOM)
    turn()
    assert not watcher.active
    assert calls[0][0] is watcher
    assert turn() is False


# Context manager


def test_context_manager(loop, kind):
    watcher = kind.new(loop, print)
    with watcher as entered:
        assert entered is watcher
        assert watcher.active
    assert not watcher.active
    with kind.make(loop, print) as made:
        assert made.active
    assert not made.active


def test_context_manager_lets_exceptions_pass(loop, kind):
    watcher = kind.new(loop, print)
    with pytest.raises(LookupError), watcher:
        raise LookupError
    assert not watcher.active


def test_context_manager_of_one_stopped_inside(loop, kind):
    with kind.new(loop, print) as watcher:
        watcher.stop()
    assert not watcher.active


def test_context_manager_when_the_loop_is_closed_inside(kind, calls):
    with pyev.Loop() as loop, kind.new(loop, calls) as watcher:
        loop.close()
    assert not watcher.active


# invoke, feed, clear


def test_invoke_calls_at_once(loop, kind, calls):
    watcher = kind.new(loop, calls)
    assert watcher.invoke(pyev.EV_CUSTOM) is None
    assert calls == [(watcher, pyev.EV_CUSTOM)]
    assert not watcher.active
    assert not watcher.pending


def test_invoke_passes_the_number_on(loop, kind, calls):
    watcher = kind.new(loop, calls)
    for revents in (0, kind.event, pyev.EV_CUSTOM | kind.event):
        watcher.invoke(revents)
    assert calls.revents == [0, kind.event, pyev.EV_CUSTOM | kind.event]


def test_feed_makes_pending(loop, kind, calls):
    watcher = kind.new(loop, calls)
    assert watcher.feed(kind.event) is None
    assert watcher.pending is True
    assert watcher.active is False
    assert loop.pending == 1
    assert calls == []
    loop.invoke()
    assert watcher.pending is False
    assert calls == [(watcher, kind.event)]


def test_what_is_fed_twice_is_called_once(loop, kind, calls):
    watcher = kind.new(loop, calls)
    watcher.feed(kind.event)
    watcher.feed(pyev.EV_CUSTOM)
    assert loop.pending == 1
    loop.invoke()
    assert calls == [(watcher, kind.event | pyev.EV_CUSTOM)]


def test_clear_returns_what_was_pending(loop, kind, calls):
    watcher = kind.new(loop, calls)
    assert watcher.clear() == 0
    watcher.feed(kind.event)
    watcher.feed(pyev.EV_CUSTOM)
    assert watcher.clear() == kind.event | pyev.EV_CUSTOM
    assert watcher.pending is False
    assert watcher.clear() == 0
    loop.invoke()
    assert calls == []


def test_stop_clears(loop, kind, calls):
    watcher = kind.new(loop, calls)
    watcher.start()
    watcher.feed(pyev.EV_CUSTOM)
    watcher.stop()
    assert not watcher.pending
    loop.invoke()
    assert calls == []


def test_stop_clears_one_that_is_only_pending(loop, kind, calls):
    watcher = kind.new(loop, calls)
    watcher.feed(pyev.EV_CUSTOM)
    watcher.stop()
    assert not watcher.pending
    loop.invoke()
    assert calls == []


@pytest.mark.parametrize("name", ["invoke", "feed"])
def test_revents_of_a_wrong_type(loop, kind, name, calls):
    method = getattr(kind.new(loop, calls), name)
    for wrong in ("read", None, 1.0):
        with pytest.raises(TypeError):
            method(wrong)
    with pytest.raises(TypeError):
        method()
    for wrong in (2**40, -(2**40), 2**80):
        with pytest.raises(OverflowError):
            method(wrong)
    loop.invoke()
    assert calls == []


# set


def test_set_by_position(loop, kind):
    watcher = kind.new(loop, print)
    if kind.names == () or kind.name == "Scheduler":
        assert not hasattr(watcher, "set")
        return
    assert watcher.set(*kind.args) is None
    with pytest.raises(TypeError):
        watcher.set()
    with pytest.raises(TypeError):
        watcher.set(*kind.args, 1)


def test_set_while_active_is_refused(loop, kind):
    if not hasattr(kind.cls, "set"):
        return
    with kind.new(loop, print) as watcher:
        with pytest.raises(pyev.Error, match="active"):
            watcher.set(*kind.args)
        assert watcher.active


def test_set_while_only_pending_clears(loop, kind, calls):
    if not hasattr(kind.cls, "set"):
        return
    watcher = kind.new(loop, calls)
    watcher.feed(pyev.EV_CUSTOM)
    watcher.set(*kind.args)
    assert not watcher.pending
    loop.invoke()
    assert calls == []


# Attributes


@pytest.mark.parametrize("name", ["loop", "active", "pending"])
def test_read_only(loop, kind, name):
    watcher = kind.new(loop, print)
    before = getattr(watcher, name)
    with pytest.raises(AttributeError):
        setattr(watcher, name, before)
    with pytest.raises((AttributeError, TypeError)):
        delattr(watcher, name)
    assert getattr(watcher, name) is before


def test_callback_is_writable_at_any_time(loop, kind, calls):
    watcher = kind.new(loop, print)
    watcher.start()
    watcher.feed(pyev.EV_CUSTOM)
    watcher.callback = calls
    assert watcher.callback is calls
    loop.invoke()
    watcher.stop()
    assert calls == [(watcher, pyev.EV_CUSTOM)]


def test_callback_refuses_nonsense(loop, kind, calls):
    watcher = kind.new(loop, calls)
    for wrong in (1, "print", object()):
        with pytest.raises(TypeError, match="callback"):
            watcher.callback = wrong
    with pytest.raises(TypeError, match="callback"):
        del watcher.callback
    if kind.name == "Embed":
        watcher.callback = None
        assert watcher.callback is None
    else:
        with pytest.raises(TypeError, match="callback"):
            watcher.callback = None
        assert watcher.callback is calls


def test_callback_replaced_inside_itself(loop, kind, calls):
    def make():
        big = [object()]

        def callback(watcher, revents):
            watcher.callback = calls
            gc.collect()
            assert big

        return callback

    watcher = kind.new(loop, make())
    watcher.invoke(pyev.EV_CUSTOM)
    assert calls == []
    watcher.invoke(pyev.EV_CUSTOM)
    assert len(calls) == 1


def test_data(loop, kind):
    value = object()
    watcher = kind.new(loop, print)
    watcher.start()
    watcher.data = value
    assert watcher.data is value
    del watcher.data
    assert watcher.data is None
    del watcher.data
    assert watcher.data is None
    watcher.stop()


@pytest.mark.parametrize("priority", [-2, -1, 0, 1, 2, 3, -3, 1000, -1000, 2**31 - 1, -(2**31)])
def test_priority_is_kept_as_given(loop, kind, priority):
    watcher = kind.new(loop, print)
    watcher.priority = priority
    assert watcher.priority == priority
    assert kind.new(loop, print, priority=priority).priority == priority


@pytest.mark.parametrize("priority", [99, -99])
def test_any_priority_can_be_fed(loop, kind, calls, priority):
    # libev indexes its pending lists by the number: out of range it would write elsewhere. Only
    # starting the watcher clamps it.
    order = []
    watcher = kind.new(loop, lambda watcher, revents: order.append(watcher), priority=priority)
    same = loop.idle(watcher.callback, priority=2 if priority > 0 else -2)
    watcher.feed(pyev.EV_CUSTOM)
    same.feed(pyev.EV_CUSTOM)
    assert loop.pending == 2
    loop.verify()
    loop.invoke()
    assert order == [same, watcher]
    with watcher:
        watcher.feed(pyev.EV_CUSTOM)
        loop.invoke()
    assert order[2] is watcher


def test_priority_while_active_or_pending_is_refused(loop, kind, calls):
    watcher = kind.new(loop, calls, priority=1)
    watcher.start()
    with pytest.raises(pyev.Error, match="active"):
        watcher.priority = 2
    watcher.stop()
    watcher.feed(pyev.EV_CUSTOM)
    with pytest.raises(pyev.Error, match="pending"):
        watcher.priority = 2
    assert watcher.priority == 1
    watcher.clear()
    watcher.priority = 2
    assert watcher.priority == 2


def test_priority_refuses_nonsense(loop, kind):
    watcher = kind.new(loop, print)
    for wrong in ("1", None, 1.5):
        with pytest.raises(TypeError):
            watcher.priority = wrong
    for wrong in (2**31, -(2**31) - 1, 2**80):
        with pytest.raises(OverflowError):
            watcher.priority = wrong
    with pytest.raises(TypeError, match="priority"):
        del watcher.priority
    assert watcher.priority == 0


# keepalive


def test_without_keepalive_the_loop_ends(loop, kind, calls):
    watcher = kind.new(loop, calls, keepalive=False)
    watcher.start()
    assert loop.start() is False
    assert watcher.active
    watcher.stop()
    assert loop.start() is False
    with pytest.raises(pyev.Error):  # the count is even again
        loop.unref()


def test_keepalive_changed_while_active(loop, kind, turn, calls):
    counts = kind.name != "Cleanup"
    watcher = kind.new(loop, calls)
    watcher.start()
    assert turn() is counts
    watcher.keepalive = False
    assert watcher.keepalive is False
    assert turn() is False
    watcher.keepalive = False
    assert turn() is False
    watcher.keepalive = 1
    assert watcher.keepalive is True
    assert turn() is counts
    watcher.keepalive = []
    watcher.stop()
    assert turn() is False
    with pytest.raises(pyev.Error):
        loop.unref()


def test_keepalive_changed_while_stopped(loop, kind, turn, calls):
    watcher = kind.new(loop, calls)
    watcher.keepalive = False
    watcher.start()
    assert turn() is False
    watcher.stop()
    watcher.keepalive = True
    watcher.start()
    assert turn() is (kind.name != "Cleanup")
    watcher.stop()
    assert turn() is False
    with pytest.raises(pyev.Error):
        loop.unref()


@pytest.mark.parametrize("make", ["timer", "periodic"])
def test_keepalive_of_one_set_while_only_pending(loop, calls, make):
    """It has ended by itself, and what holds the loop running is not counted less for it."""
    watcher = getattr(loop, make)(0.0, 0.0, calls, keepalive=False)

    def callback(first, revents):
        assert watcher.pending and not watcher.active
        watcher.set(1.0, 0.0)

    last = loop.timer(0.02, 0.0, calls)
    with watcher, loop.timer(0.0, 0.0, callback, None, pyev.EV_MAXPRI), last:
        assert loop.start() is False
    assert [called for called, _ in calls] == [last]
    with pytest.raises(pyev.Error):
        loop.unref()


def test_keepalive_of_one_dropped(loop, kind, turn, calls):
    watcher = kind.new(loop, calls, keepalive=False)
    watcher.start()
    with pytest.warns(ResourceWarning):
        del watcher
        gc.collect()
    assert turn() is False
    with pytest.raises(pyev.Error):
        loop.unref()


def test_keepalive_of_one_closed_with_its_loop(kind, calls, new_loop):
    with pyev.Loop() as loop:
        watcher = kind.new(loop, calls, keepalive=False)
        watcher.start()
    other = new_loop()
    watcher.__init__(*kind.args, other, calls)
    watcher.start()
    assert other.start(pyev.EVRUN_NOWAIT) is (kind.name != "Cleanup")
    watcher.stop()
    assert other.start(pyev.EVRUN_NOWAIT) is False


def test_keepalive_refuses_nonsense(loop, kind):
    class Undecided:
        def __bool__(self):
            raise LookupError("undecided")

    watcher = kind.new(loop, print)
    with pytest.raises(LookupError):
        watcher.keepalive = Undecided()
    with pytest.raises(LookupError):
        kind.new(loop, print, keepalive=Undecided())
    with pytest.raises(TypeError, match="keepalive"):
        del watcher.keepalive
    assert watcher.keepalive is True


# Objects of today's Python


def test_generic(kind):
    alias = kind.cls[int]
    assert isinstance(alias, types.GenericAlias)
    assert alias.__origin__ is kind.cls
    assert alias.__args__ == (int,)


def test_generic_subclass(loop, kind):
    class Mine(kind.cls[str]):
        pass

    assert Mine(*kind.args, loop, print, "data").data == "data"


def test_repr_tells_kind_and_state(loop, kind):
    watcher = kind.new(loop, print)
    idle = repr(watcher)
    assert kind.name in idle
    watcher.start()
    active = repr(watcher)
    assert kind.name in active
    assert active != idle
    watcher.feed(pyev.EV_CUSTOM)
    assert repr(watcher) != active
    watcher.stop()
    assert repr(watcher) == idle


def test_repr_names_the_subclass(loop, kind):
    assert "Mine" in repr(type("Mine", (kind.cls,), {})(*kind.args, loop, print))


def test_weakly_referenceable(loop, kind):
    watcher = kind.new(loop, print)
    died = []
    gone = weakref.ref(watcher, died.append)
    assert gone() is watcher
    del watcher
    gc.collect()
    assert gone() is None
    assert died == [gone]


def test_a_key_of_dictionaries(loop, kind):
    one, other = kind.new(loop, print), kind.new(loop, print)
    names = {one: "one", other: "other"}
    assert names[one] == "one"
    assert names[other] == "other"
    assert one != other
    assert one == one
