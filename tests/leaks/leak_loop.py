"""Loop."""

import contextlib

from leak_probe import COUNT, FLAGS, Data, Probe, failing, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
probe.involved.append(pyev.Loop)


def invoke(loop: pyev.Loop) -> None:
    loop.invoke()


def made() -> None:
    pyev.Loop(FLAGS, invoke, data)


def closed() -> None:
    with pyev.Loop(FLAGS, data=data):
        pass


def used() -> None:
    with pyev.Loop(FLAGS) as short:
        timer = short.timer(0.0, 0.0, nothing, data)
        timer.start()
        short.start()


def died_in_a_cycle() -> None:
    short = pyev.Loop(FLAGS)
    short.data = short
    short.callback = lambda loop: short.invoke()


def died_in_a_cycle_with_active_watchers() -> None:
    short = pyev.Loop(FLAGS)
    watchers = [
        short.timer(1.0, 1.0, nothing, data),
        short.idle(nothing, data),
        short.async_(nothing, data),
        short.stat("/", 100.0, nothing, data),
        short.periodic(0.0, 1e6, nothing, data),
        short.cleanup(nothing, data),
    ]
    for watcher in watchers:
        watcher.start()
        watcher.data = watchers
    short.data = watchers


def default() -> None:
    with pyev.default_loop(FLAGS, data=data):
        pass
    pyev.default_loop(FLAGS)


def refused() -> None:
    for arguments in (("x",), (pyev.EVBACKEND_DEVPOLL,), (FLAGS, 3), (FLAGS, None, None, "x")):
        try:
            pyev.Loop(*arguments)
        except (TypeError, ValueError, pyev.Error):
            continue
        raise SystemExit(f"{arguments} were taken")


def half_made() -> None:
    short = pyev.Loop.__new__(pyev.Loop)
    short.close()


kept = loop.timer(0.0, 1e-9, nothing)
kept.start()
bad = loop.timer(0.0, 1e-9, failing)


def turned() -> None:
    loop.start(pyev.EVRUN_NOWAIT)


def turned_by_its_callback() -> None:
    loop.callback = invoke
    loop.start(pyev.EVRUN_NOWAIT)
    loop.callback = None


def callback_raised() -> None:
    loop.callback = failing
    with contextlib.suppress(TypeError):
        loop.start(pyev.EVRUN_NOWAIT)
    loop.callback = None
    loop.start(pyev.EVRUN_NOWAIT)


def several_raised() -> None:
    loop.debug = True
    others = [loop.timer(0.0, 0.0, failing) for _ in range(3)]
    for other in others:
        other.start()
    with contextlib.suppress(LookupError):
        loop.start(pyev.EVRUN_NOWAIT)
    loop.debug = False
    loop.start(pyev.EVRUN_NOWAIT)


def attributes() -> None:
    loop.data = Data()
    loop.data = None
    loop.io_interval = loop.io_interval
    loop.timeout_interval = loop.timeout_interval
    for name in ("backend", "iteration", "depth", "pending", "default", "closed", "callback"):
        getattr(loop, name)
    repr(loop)
    loop.ref()
    loop.unref()
    loop.update()
    loop.suspend()
    loop.resume()
    assert loop.now()


for way in (
    made, closed, used, died_in_a_cycle, died_in_a_cycle_with_active_watchers, default, refused,
    half_made,
):  # fmt: skip
    probe.run(way.__name__, way, COUNT // 5)
for way in (turned, turned_by_its_callback, callback_raised, several_raised, attributes):
    probe.run(way.__name__, way)
kept.stop()
probe.end()
