"""Handles: asyncio's own to whoever looks, however they were made."""

import asyncio
import contextlib
import contextvars
import gc
import sys
import weakref

import pytest

import pyev

SLOTS = ["_callback", "_args", "_cancelled", "_loop", "_source_traceback", "_repr", "_context"]


def nothing(*args):
    pass


@pytest.fixture(params=["call_soon", "call_later"])
def make(request):
    """Makes one kind of handle, far away if it is a timer's."""

    def make(loop, callback, *args):
        if request.param == "call_soon":
            return loop.call_soon(callback, *args)
        return loop.call_later(1000, callback, *args)

    return make


def test_types(aloop, make):
    handle = make(aloop, nothing)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(handle, asyncio.TimerHandle) == hasattr(handle, "when")
    assert not hasattr(handle, "__dict__")
    assert weakref.ref(handle)() is handle
    handle.cancel()


def test_cannot_be_made_by_hand(ours, make):
    handle = make(ours, nothing)
    for call in (type(handle), lambda: type(handle)(nothing, (), ours, None)):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        type("Sub", (type(handle),), {})
    handle.cancel()


def test_repr(aloop, make):
    handle = make(aloop, nothing, 1, "x")
    text = repr(handle)
    assert text.startswith(f"<{type(handle).__name__} ")
    # Python 3.13 shows arguments in debug mode only.
    shown = "nothing(1, 'x')" if aloop.get_debug() or sys.version_info < (3, 13) else "nothing()"
    assert shown in text
    assert ("created at" in text) == aloop.get_debug()
    handle.cancel()
    assert " cancelled" in repr(handle)
    assert ("nothing(1, 'x')" in repr(handle)) == aloop.get_debug()


def test_repr_of_a_cancelled_one(aloop, make):
    """asyncio's debug mode notes what it was just before."""
    handle = make(aloop, nothing, 1, "x")
    handle.cancel()
    assert ("nothing(1, 'x')" in repr(handle)) == aloop.get_debug()
    assert handle._args is None


def test_context(aloop, make, spin):
    handle = make(aloop, nothing)
    if sys.version_info >= (3, 12):
        assert handle.get_context() is handle._context
    handle.cancel()


def test_source_traceback(aloop, make):
    handle = make(aloop, nothing)
    if aloop.get_debug():
        assert any(frame.name == "test_source_traceback" for frame in handle._source_traceback)
    else:
        assert handle._source_traceback is None
    handle.cancel()


def test_loops_of_handles(aloop, make):
    handle = make(aloop, nothing)
    assert handle._loop is aloop
    handle.cancel()


def test_handles_of_asyncio_itself(ours, spin):
    """Code that makes a Handle by hand and hands it over."""
    seen = []
    ours._add_callback(asyncio.Handle(seen.append, (1,), ours))
    cancelled = asyncio.Handle(seen.append, (2,), ours)
    cancelled.cancel()
    ours._add_callback(cancelled)
    spin(ours)
    assert seen == [1]
    with pytest.raises(TypeError, match="Handle is required"):
        ours._add_callback(nothing)


@pytest.mark.parametrize(
    "value",
    [None, 1, "x", (), [], object(), "del"],
    ids=["none", "int", "str", "tuple", "list", "object", "del"],
)
@pytest.mark.parametrize("slot", [*SLOTS, "_when", "_scheduled"])
def test_attributes_of_nonsense(ours, make, spin, slot, value):
    """What Python may do to a slot must not end the process."""
    ours.set_exception_handler(lambda loop, context: None)

    def spoil(handle):
        if slot in ("_when", "_scheduled") and not hasattr(handle, "when"):
            pytest.skip("a slot of timers")
        delattr(handle, slot) if value == "del" else setattr(handle, slot, value)

    def harmless(function):
        with contextlib.suppress(Exception):
            function()

    run, cancelled, both = (make(ours, nothing) for _ in range(3))
    spoil(cancelled)
    harmless(cancelled.cancel)
    harmless(cancelled.cancel)
    harmless(lambda: repr(cancelled))
    spoil(run)
    harmless(lambda: repr(run))
    spoil(both)
    due = ours.call_at(0, nothing)
    if hasattr(due, slot):
        spoil(due)
    for _ in range(3):
        harmless(lambda: spin(ours))
    harmless(both.cancel)
    harmless(run.cancel)
    run = cancelled = both = due = None
    gc.collect()
    ours.call_soon(ours.stop)
    ours.run_forever()


@pytest.mark.parametrize("slot", SLOTS)
def test_attributes_deleted_of_what_only_the_loop_has(ours, spin, slot):
    def fail():
        raise ZeroDivisionError

    ours.set_exception_handler(lambda loop, context: None)
    for function in (nothing, fail):
        delattr(ours.call_soon(function), slot)
        delattr(ours.call_at(0, function), slot)
    for _ in range(5):
        with contextlib.suppress(AttributeError):
            spin(ours)


def test_cycles_are_collected(aloop, make, spin):
    class Argument:
        pass

    argument = Argument()
    reference = weakref.ref(argument)
    argument.handle = make(aloop, nothing, argument)
    if hasattr(argument.handle, "when"):
        del argument
        # A timer that waits is kept by its loop.
        gc.collect()
        assert reference() is not None
        aloop.close()
    else:
        del argument
        spin(aloop)
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("ends", ["run", "close", "cancel"])
def test_a_long_chain_of_handles(aloop, spin, ends):
    """Each is an argument of the next, and all go at once."""
    aloop.set_debug(False)
    handle = None
    for _ in range(100_000):
        if ends == "cancel":
            handle = aloop.call_at(0, nothing, handle)
        else:
            handle = aloop.call_soon(nothing, handle)
    if ends == "close":
        aloop.close()
    else:
        spin(aloop)
    if ends == "cancel":
        handle.cancel()
    del handle


def test_spares_are_as_new(ours, spin):
    """A handle made where another one was has nothing of it."""
    ours.set_debug(False)
    for _ in range(3):
        handles = [ours.call_soon(nothing, i) for i in range(1000)]
        handles += [ours.call_later(1000, nothing, i) for i in range(1000)]
        references = [weakref.ref(handle) for handle in handles]
        for handle in handles[::2]:
            handle.cancel()
        assert [handle.cancelled() for handle in handles] == [True, False] * 1000
        for handle in handles:
            handle.cancel()
        spin(ours)
        del handles, handle
        assert all(reference() is None for reference in references)


def test_many_handles_keep_memory_flat(ours, spin):
    ours.set_debug(False)

    def churn(count):
        for _ in range(count // 1000):
            for _ in range(1000):
                ours.call_soon(nothing, 1)
            spin(ours)
        for _ in range(count):
            ours.call_soon(nothing).cancel()
        spin(ours)
        gc.collect()
        return sys.getallocatedblocks()

    before = churn(10_000)
    assert churn(100_000) - before < 500


def test_loops_keep_memory_flat(factory, spin):
    def churn(count):
        for _ in range(count):
            loop = factory()
            loop.call_soon(nothing)
            loop.call_later(1000, nothing)
            spin(loop)
            loop.close()
        gc.collect()
        return sys.getallocatedblocks()

    before = churn(20)
    assert churn(100) - before < 200


def test_loop_dropped_without_close(factory):
    loop = factory()
    reference = weakref.ref(loop)
    handles = [loop.call_soon(nothing, loop), loop.call_later(1000, nothing, loop)]
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop, handles
        gc.collect()
    assert reference() is None


def test_handles_outlive_their_loop(factory):
    loop = factory()
    handles = [loop.call_soon(nothing), loop.call_later(1000, nothing)]
    loop.close()
    del loop
    gc.collect()
    for handle in handles:
        assert "nothing" in repr(handle)
        handle.cancel()
        assert handle.cancelled()


def test_at_the_end_of_the_interpreter(script):
    script("""
    import asyncio, pyev, sys
    loop = pyev.new_event_loop()
    keep = [loop.call_soon(print), loop.call_later(1, print)]
    sys.modules["keep"] = keep
    loop.close()
    """)


def test_the_native_half_alone():
    ev = pyev.Loop()
    base = pyev._core.LoopBase
    for make in (lambda: base(), lambda: base(1), lambda: base(ev, 1), lambda: base(None)):
        with pytest.raises(TypeError):
            make()
    empty = base.__new__(base)
    with pytest.raises(RuntimeError, match="__init__"):
        empty.call_soon(print)
    for name in ("time", "stop", "_run", "_close", "_write_to_self"):
        with pytest.raises(RuntimeError, match="__init__"):
            getattr(empty, name)()
    repr(empty)
    first = base(ev)
    with pytest.raises(RuntimeError, match="of its own"):
        base(ev)
    with pytest.raises(RuntimeError, match="already"):
        first.__init__(pyev.Loop())
    with pytest.raises(RuntimeError, match="of its own"):
        base(pyev.default_loop())
    first._close()
    pyev.default_loop().close()
    gc.collect()


# What is kept of a handle until somebody asks


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "dropped"])
@pytest.mark.parametrize("count", range(6))
def test_arguments(aloop, make, spin, count, kept):
    """However many, and whether or not anybody else has the handle."""
    arguments = tuple(object() for _ in range(count))
    seen = []
    handles = [aloop.call_soon(lambda *args: seen.append(args), *arguments) for _ in range(2)]
    handles.append(aloop.call_at(0, lambda *args: seen.append(args), *arguments))
    far = make(aloop, nothing, *arguments)
    assert far._args == arguments
    assert all(mine is given for mine, given in zip(far._args, arguments, strict=True))
    if not kept:
        handles.clear()
    spin(aloop)
    spin(aloop)
    assert seen == [arguments] * 3
    assert [handle._args for handle in handles] == [arguments] * len(handles)
    far.cancel()
    assert far._args is None
    assert far._callback is None


def test_arguments_outlive_a_cancelled_handle(aloop, spin):
    """Also those that the handle alone refers to."""
    seen = []

    def callback(first, second):
        handle.cancel()
        gc.collect()
        seen.append((first[0], second[0]))

    handle = aloop.call_soon(callback, ["a"], ["b"])
    spin(aloop)
    assert seen == [("a", "b")]


def test_attributes_set_by_hand(aloop, spin):
    seen = []
    handle = aloop.call_soon(seen.append, 1)
    handle._args = (2,)
    other = aloop.call_soon(seen.append, 3)
    other._callback = lambda value: seen.append(-value)
    cancelled = aloop.call_soon(seen.append, 4)
    cancelled._cancelled = True
    assert cancelled.cancelled()
    spin(aloop)
    assert seen == [2, -3]


def test_scheduled(aloop, spin):
    far, due = aloop.call_later(1000, nothing), aloop.call_later(-1, nothing)
    assert far._scheduled and due._scheduled
    spin(aloop)
    assert far._scheduled
    assert not due._scheduled
    far.cancel()


variable = contextvars.ContextVar("variable", default="none")


def test_what_a_callback_sets_is_in_its_handles_context(aloop, spin):
    handle = aloop.call_soon(variable.set, "x")
    timer = aloop.call_at(0, variable.set, "y")
    spin(aloop)
    assert handle._context[variable] == "x"
    assert timer._context[variable] == "y"
    assert variable.get() == "none"


def test_callbacks_do_not_share_a_context(aloop, spin):
    seen, tokens = [], []

    def change():
        seen.append(variable.get())
        tokens.append(variable.set("changed"))

    def reset():
        seen.append(variable.get())
        for token in tokens:
            with pytest.raises(ValueError, match="different Context"):
                variable.reset(token)
        seen.append(variable.get())

    for callback in (change, change, reset, change):
        aloop.call_soon(callback)
    spin(aloop)
    assert seen == ["none"] * 5


def test_a_context_that_was_copied_in_the_callback(aloop, spin):
    copies = []

    def change(value):
        variable.set(value)
        copies.append(contextvars.copy_context())

    for value in range(3):
        aloop.call_soon(change, value)
    aloop.call_soon(lambda: copies.append(contextvars.copy_context()))
    spin(aloop)
    assert [copy.get(variable) for copy in copies] == [0, 1, 2, None]


def test_what_is_set_in_a_context_goes_with_it(aloop, spin):
    class Value:
        pass

    def callback():
        value = Value()
        references.append(weakref.ref(value))
        variable.set(value)

    references = []
    aloop.call_soon(callback)
    spin(aloop)
    gc.collect()
    assert references[0]() is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="get_context() is of Python 3.12")
def test_exception_handlers_run_in_the_context_of_the_callback(aloop, spin):
    seen = []

    def fail(arguments):
        variable.set("set before")
        raise ZeroDivisionError

    def handler(loop, context):
        handle = context["handle"]
        seen.append((variable.get(), handle._args, handle._callback))
        assert isinstance(handle, asyncio.Handle)

    aloop.set_exception_handler(handler)
    aloop.call_soon(fail, 1)
    kept = aloop.call_soon(fail, 2)
    timer = aloop.call_at(-1, fail, 3)
    spin(aloop)
    del timer
    assert seen == [("set before", (number,), fail) for number in (1, 2, 3)]
    assert kept._context[variable] == "set before"


# Garbage: a handle in a queue of a running loop is not tracked


class Argument:
    """Refers to handles that refer to it."""


@pytest.mark.parametrize("how", ["cancelled", "run", "closed"])
def test_cycles_of_a_running_loop_are_collected(aloop, spin, how):
    def schedule(argument):
        variable.set(argument)  # so that the cycle goes through their contexts too
        argument.handle = aloop.call_soon(nothing, argument)
        argument.timer = aloop.call_later(-1 if how == "run" else 1000, nothing, argument)
        if how == "cancelled":
            argument.handle.cancel()
            argument.timer.cancel()

    argument = Argument()
    reference = weakref.ref(argument)
    aloop.call_soon(schedule, argument)
    del argument
    for _ in range(3):
        spin(aloop)
    if how == "closed":
        aloop.close()
    gc.collect()
    assert reference() is None


def test_loop_dropped_with_handles_made_while_it_ran(factory):
    loop = factory()
    reference = weakref.ref(loop)
    loop.call_soon(leave_handles, loop)
    loop.run_forever()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    gc.collect()  # the warning had it; from Python 3.15 on its weak references live until then
    assert reference() is None


def leave_handles(loop):
    loop.kept = [loop.call_later(1000, nothing, loop), loop.call_soon(nothing, loop)]
    loop.stop()
