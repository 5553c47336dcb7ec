"""pyev: libev's event loop for Python.

Start with a loop, make watchers on it, start them, run the loop::

    import signal
    import pyev

    def tick(watcher, revents):
        print(watcher.loop.now())

    def interrupted(watcher, revents):
        watcher.loop.stop(pyev.EVBREAK_ALL)

    loop = pyev.default_loop()
    with loop.timer(1.0, 1.0, tick), loop.signal(signal.SIGINT, interrupted):
        loop.start()

`Loop` is one event loop, `default_loop()` the one a process shares. A loop has a
method for each kind of watcher: `Loop.io` makes an `Io`, `Loop.timer` a `Timer`, and so
on; every watcher is a `Watcher` and calls ``callback(watcher, revents)``. Keep a
reference to each: a watcher lives as long as something in Python refers to it.

`EventLoop` is asyncio's event loop on the same engine: ``pyev.run(main())``. Its `ev` is the
`Loop` underneath, so any watcher runs beside any coroutine. `open_connection` and `start_server`
are asyncio's, with native streams.

``python -m pyev`` tells which libev is linked and what it can do here.
"""

from pyev._core import (
    EV_ASYNC,
    EV_CHECK,
    EV_CHILD,
    EV_CLEANUP,
    EV_CUSTOM,
    EV_EMBED,
    EV_ERROR,
    EV_FORK,
    EV_IDLE,
    EV_IO,
    EV_MAXPRI,
    EV_MINPRI,
    EV_NONE,
    EV_PERIODIC,
    EV_PREPARE,
    EV_READ,
    EV_SIGNAL,
    EV_STAT,
    EV_TIMER,
    EV_UNDEF,
    EV_WRITE,
    EVBACKEND_ALL,
    EVBACKEND_DEVPOLL,
    EVBACKEND_EPOLL,
    EVBACKEND_IOURING,
    EVBACKEND_KQUEUE,
    EVBACKEND_LINUXAIO,
    EVBACKEND_MASK,
    EVBACKEND_POLL,
    EVBACKEND_PORT,
    EVBACKEND_SELECT,
    EVBREAK_ALL,
    EVBREAK_CANCEL,
    EVBREAK_ONE,
    EVFLAG_AUTO,
    EVFLAG_FORKCHECK,
    EVFLAG_NOENV,
    EVFLAG_NOINOTIFY,
    EVFLAG_NOSIGMASK,
    EVFLAG_NOTIMERFD,
    EVFLAG_SIGNALFD,
    EVRUN_NOWAIT,
    EVRUN_ONCE,
    Async,
    Check,
    Child,
    Cleanup,
    Embed,
    Error,
    Fork,
    Idle,
    Io,
    Loop,
    Once,
    Periodic,
    Prepare,
    Scheduler,
    Signal,
    Stat,
    StatResult,
    Timer,
    Watcher,
    __version__,
    abi_version,
    default_loop,
    embeddable_backends,
    feed_signal,
    recommended_backends,
    sleep,
    supported_backends,
    time,
    version,
)

# Type checkers know the name. The module typing takes several times as long to import as this one.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyev._eventloop import EventLoop, new_event_loop, run
    from pyev._policy import EventLoopPolicy, install
    from pyev._streams import (
        StreamReader,
        StreamWriter,
        open_connection,
        open_unix_connection,
        start_server,
        start_unix_server,
    )

__all__ = [
    "EVBACKEND_ALL",
    "EVBACKEND_DEVPOLL",
    "EVBACKEND_EPOLL",
    "EVBACKEND_IOURING",
    "EVBACKEND_KQUEUE",
    "EVBACKEND_LINUXAIO",
    "EVBACKEND_MASK",
    "EVBACKEND_POLL",
    "EVBACKEND_PORT",
    "EVBACKEND_SELECT",
    "EVBREAK_ALL",
    "EVBREAK_CANCEL",
    "EVBREAK_ONE",
    "EVFLAG_AUTO",
    "EVFLAG_FORKCHECK",
    "EVFLAG_NOENV",
    "EVFLAG_NOINOTIFY",
    "EVFLAG_NOSIGMASK",
    "EVFLAG_NOTIMERFD",
    "EVFLAG_SIGNALFD",
    "EVRUN_NOWAIT",
    "EVRUN_ONCE",
    "EV_ASYNC",
    "EV_CHECK",
    "EV_CHILD",
    "EV_CLEANUP",
    "EV_CUSTOM",
    "EV_EMBED",
    "EV_ERROR",
    "EV_FORK",
    "EV_IDLE",
    "EV_IO",
    "EV_MAXPRI",
    "EV_MINPRI",
    "EV_NONE",
    "EV_PERIODIC",
    "EV_PREPARE",
    "EV_READ",
    "EV_SIGNAL",
    "EV_STAT",
    "EV_TIMER",
    "EV_UNDEF",
    "EV_WRITE",
    "Async",
    "Check",
    "Child",
    "Cleanup",
    "Embed",
    "Error",
    "EventLoop",
    "EventLoopPolicy",
    "Fork",
    "Idle",
    "Io",
    "Loop",
    "Once",
    "Periodic",
    "Prepare",
    "Scheduler",
    "Signal",
    "Stat",
    "StatResult",
    "StreamReader",
    "StreamWriter",
    "Timer",
    "Watcher",
    "__version__",
    "abi_version",
    "default_loop",
    "embeddable_backends",
    "feed_signal",
    "install",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "recommended_backends",
    "run",
    "sleep",
    "start_server",
    "start_unix_server",
    "supported_backends",
    "time",
    "version",
]


# asyncio is imported when it is asked for: programs of watchers alone do without.
_LATER = {
    "EventLoop": "pyev._eventloop",
    "EventLoopPolicy": "pyev._policy",
    "StreamReader": "pyev._streams",
    "StreamWriter": "pyev._streams",
    "install": "pyev._policy",
    "new_event_loop": "pyev._eventloop",
    "open_connection": "pyev._streams",
    "open_unix_connection": "pyev._streams",
    "run": "pyev._eventloop",
    "start_server": "pyev._streams",
    "start_unix_server": "pyev._streams",
}


if not TYPE_CHECKING:  # which would take any name for one of the module's

    def __getattr__(name):
        if name in _LATER:
            from importlib import import_module

            return getattr(import_module(_LATER[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
