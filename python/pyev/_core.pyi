"""The native half of pyev: libev's loop and its watchers."""

import os
import sys
from asyncio import (
    AbstractServer,
    BaseProtocol,
    DatagramTransport,
    Future,
    Handle,
    ReadTransport,
    StreamReader,
    StreamWriter,
    Task,
    TimerHandle,
    Transport,
    WriteTransport,
)
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextvars import Context
from socket import socket
from ssl import SSLContext
from types import GenericAlias, TracebackType
from typing import (
    Any,
    Final,
    Generic,
    Protocol,
    Self,
    SupportsFloat,
    SupportsIndex,
    TypeAlias,
    final,
    type_check_only,
)

from typing_extensions import Buffer, TypeVar, disjoint_base

_T = TypeVar("_T", default=Any)

@type_check_only
class _HasFileno(Protocol):
    def fileno(self) -> int: ...

_Fd: TypeAlias = SupportsIndex | _HasFileno
_Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Seconds: TypeAlias = SupportsFloat | SupportsIndex
_LoopCallback: TypeAlias = Callable[[Loop], object]

__version__: Final[str]

@disjoint_base
class LoopBase:
    """The native half of pyev.EventLoop."""

    def __init__(self, ev: Loop) -> None: ...
    @property
    def ev(self) -> Loop: ...
    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle: ...
    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def time(self) -> float: ...
    def stop(self) -> None: ...
    def add_reader(self, fd: _Fd, callback: Callable[..., object], /, *args: Any) -> None: ...
    def add_writer(self, fd: _Fd, callback: Callable[..., object], /, *args: Any) -> None: ...
    def remove_reader(self, fd: _Fd, /) -> bool: ...
    def remove_writer(self, fd: _Fd, /) -> bool: ...
    def sock_recv(self, sock: socket, n: int) -> Coroutine[Any, Any, bytes]: ...
    def sock_recv_into(self, sock: socket, buf: Buffer) -> Coroutine[Any, Any, int]: ...
    def sock_recvfrom(
        self, sock: socket, bufsize: int
    ) -> Coroutine[Any, Any, tuple[bytes, Any]]: ...
    def sock_recvfrom_into(
        self, sock: socket, buf: Buffer, nbytes: int = 0
    ) -> Coroutine[Any, Any, tuple[int, Any]]: ...
    def sock_sendall(self, sock: socket, data: Buffer) -> Coroutine[Any, Any, None]: ...
    def sock_sendto(self, sock: socket, data: Buffer, address: Any) -> Coroutine[Any, Any, int]: ...
    def sock_accept(self, sock: socket) -> Coroutine[Any, Any, tuple[socket, Any]]: ...
    def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> Coroutine[Any, Any, list[tuple[Any, ...]]]: ...
    def create_future(self) -> Future[Any]: ...
    def create_task(self, coro: Coroutine[Any, Any, _T], /, **kwargs: Any) -> Task[_T]: ...
    def is_running(self) -> bool: ...
    def get_debug(self) -> bool: ...
    _debug: bool
    _stopping: bool
    def _sock_wait(self, sock: socket, events: int) -> Coroutine[Any, Any, None]: ...
    def _run(self) -> None: ...
    def _close(self) -> None: ...
    def _write_to_self(self) -> None: ...
    def _add_callback(self, handle: Handle, /) -> None: ...
    def _add_callback_signalsafe(self, handle: Handle, /) -> None: ...
    def _add_reader(
        self,
        fd: _Fd,
        callback: Callable[..., object],
        /,
        *args: Any,
        context: Context | None = None,
    ) -> Handle: ...
    def _add_writer(
        self,
        fd: _Fd,
        callback: Callable[..., object],
        /,
        *args: Any,
        context: Context | None = None,
    ) -> Handle: ...
    def _remove_reader(self, fd: _Fd, /) -> bool: ...
    def _remove_writer(self, fd: _Fd, /) -> bool: ...
    def _watching(self, fd: _Fd, /) -> int: ...
    def _transport_of(self, fd: int, /) -> Transport | None: ...
    def _exchange_handler(self, signum: int, handler: Any) -> Any: ...
    def _keep_signals(self, kept: bool, /) -> None: ...

def make_socket_transport(
    loop: LoopBase,
    sock: socket,
    protocol: BaseProtocol,
    waiter: Future[None] | None,
    extra: dict[str, Any] | None,
    server: AbstractServer | None,
    context: Context | None = None,
    /,
) -> Transport: ...
def make_datagram_transport(
    loop: LoopBase,
    sock: socket,
    protocol: BaseProtocol,
    waiter: Future[None] | None,
    extra: dict[str, Any] | None,
    address: Any,
    /,
) -> DatagramTransport: ...
def make_pipe_transport(
    loop: LoopBase,
    pipe: Any,
    protocol: BaseProtocol,
    waiter: Future[None] | None,
    extra: dict[str, Any] | None,
    writes: bool,
    /,
) -> ReadTransport | WriteTransport: ...
def connect_socket(
    loop: LoopBase,
    protocol_factory: Callable[[], BaseProtocol],
    host: object,
    port: object,
    waiter: Future[None],
    tls: tuple[SSLContext, str | None, float, float] | None,
    /,
) -> tuple[Transport, BaseProtocol] | tuple[socket, Any] | None: ...
def accept_connections(
    loop: LoopBase,
    protocol_factory: Callable[[], BaseProtocol],
    sock: socket,
    server: AbstractServer | None,
    backlog: int,
    tls: tuple[SSLContext, float, float] | None,
    /,
) -> None: ...
def make_ssl_transport(
    loop: LoopBase,
    protocol: BaseProtocol,
    sslcontext: SSLContext,
    waiter: Future[None] | None,
    server_side: bool,
    server_hostname: str | None,
    handshake_timeout: float,
    shutdown_timeout: float,
    makes_connection: bool,
    context: Context | None,
    /,
) -> Transport: ...
def tls_fallback() -> str | None: ...
def _prepare() -> None: ...
def stream_classes() -> tuple[type[StreamReader], type[StreamWriter]]: ...

class Error(Exception): ...

def version() -> str: ...
def abi_version() -> tuple[int, int]: ...
def time() -> float: ...
def sleep(interval: _Seconds, /) -> None: ...
def supported_backends() -> int: ...
def recommended_backends() -> int: ...
def embeddable_backends() -> int: ...
def feed_signal(signum: SupportsIndex, /) -> None: ...
def default_loop(
    flags: SupportsIndex = ...,
    callback: _LoopCallback | None = None,
    data: Any = None,
    io_interval: _Seconds = 0.0,
    timeout_interval: _Seconds = 0.0,
    debug: object = False,
) -> Loop: ...

@disjoint_base
class Loop:
    def __init__(
        self,
        flags: SupportsIndex = ...,
        callback: _LoopCallback | None = None,
        data: Any = None,
        io_interval: _Seconds = 0.0,
        timeout_interval: _Seconds = 0.0,
        debug: object = False,
    ) -> None: ...

    # Running.
    def start(self, flags: SupportsIndex = 0) -> bool: ...
    def stop(self, how: SupportsIndex = ...) -> None: ...
    def invoke(self) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

    # Time, in seconds.
    def now(self) -> float: ...
    def update(self) -> None: ...
    def suspend(self) -> None: ...
    def resume(self) -> None: ...

    # Bookkeeping.
    def ref(self) -> None: ...
    def unref(self) -> None: ...
    def verify(self) -> None: ...
    def feed_fd_event(self, fd: _Fd, revents: SupportsIndex) -> None: ...
    def feed_signal_event(self, signum: SupportsIndex, /) -> None: ...
    callback: _LoopCallback | None
    data: Any
    debug: bool
    io_interval: float
    timeout_interval: float
    @property
    def backend(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def default(self) -> bool: ...
    @property
    def depth(self) -> int: ...
    @property
    def iteration(self) -> int: ...
    @property
    def pending(self) -> int: ...

    # A fd or a timeout (None or negative: no timeout), whichever comes first, once.
    def once(
        self,
        fd: _Fd | None,
        events: SupportsIndex,
        timeout: _Seconds | None,
        callback: Callable[[Once[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Once[_T]: ...

    # Watchers: each one's constructor without `loop`. On an EventLoop's, `callback` may be left out
    # and the watcher awaited.
    def io(
        self,
        fd: _Fd,
        events: SupportsIndex,
        callback: Callable[[Io[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Io[_T]: ...
    def timer(
        self,
        after: _Seconds,
        repeat: _Seconds,
        callback: Callable[[Timer[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Timer[_T]: ...
    def periodic(
        self,
        offset: _Seconds,
        interval: _Seconds,
        callback: Callable[[Periodic[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Periodic[_T]: ...
    def scheduler(
        self,
        scheduler: Callable[[Scheduler[_T], float], float],
        callback: Callable[[Scheduler[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Scheduler[_T]: ...
    def signal(
        self,
        signum: SupportsIndex,
        callback: Callable[[Signal[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Signal[_T]: ...
    def child(
        self,
        pid: SupportsIndex,
        trace: object,
        callback: Callable[[Child[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Child[_T]: ...
    def stat(
        self,
        path: _Path,
        interval: _Seconds = 0.0,
        callback: Callable[[Stat[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Stat[_T]: ...
    def idle(
        self,
        callback: Callable[[Idle[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Idle[_T]: ...
    def prepare(
        self,
        callback: Callable[[Prepare[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Prepare[_T]: ...
    def check(
        self,
        callback: Callable[[Check[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Check[_T]: ...
    def embed(
        self,
        other: Loop,
        callback: Callable[[Embed[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Embed[_T]: ...
    def fork(
        self,
        callback: Callable[[Fork[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Fork[_T]: ...
    def async_(
        self,
        callback: Callable[[Async[_T], int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Async[_T]: ...
    def cleanup(
        self,
        callback: Callable[[Cleanup[_T], int], object],
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> Cleanup[_T]: ...

@disjoint_base
class Watcher(Generic[_T]):
    callback: Callable[[Self, int], object] | None
    data: _T
    priority: int
    keepalive: bool
    @property
    def loop(self) -> Loop: ...
    @property
    def active(self) -> bool: ...
    @property
    def pending(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def invoke(self, revents: SupportsIndex, /) -> None: ...
    def feed(self, revents: SupportsIndex, /) -> None: ...
    def clear(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    # Those without a callback, in a coroutine of their EventLoop.
    def __await__(self) -> Generator[Any, None, int]: ...
    def __aiter__(self) -> AsyncIterator[int]: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

@disjoint_base
class Io(Watcher[_T]):
    def __init__(
        self,
        fd: _Fd,
        events: SupportsIndex,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def set(self, fd: _Fd, events: SupportsIndex) -> None: ...
    @property
    def fd(self) -> int: ...
    @property
    def events(self) -> int: ...

@disjoint_base
class Timer(Watcher[_T]):
    def __init__(
        self,
        after: _Seconds,
        repeat: _Seconds,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def set(self, after: _Seconds, repeat: _Seconds) -> None: ...
    def reset(self) -> None: ...
    repeat: float
    @property
    def remaining(self) -> float: ...

@disjoint_base
class Periodic(Watcher[_T]):
    def __init__(
        self,
        offset: _Seconds,
        interval: _Seconds,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def set(self, offset: _Seconds, interval: _Seconds) -> None: ...
    def reset(self) -> None: ...
    offset: float
    interval: float
    @property
    def at(self) -> float: ...

@disjoint_base
class Scheduler(Watcher[_T]):
    def __init__(
        self,
        scheduler: Callable[[Self, float], float],
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def reset(self) -> None: ...
    scheduler: Callable[[Scheduler[_T], float], float]
    @property
    def at(self) -> float: ...

@disjoint_base
class Signal(Watcher[_T]):
    def __init__(
        self,
        signum: SupportsIndex,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def set(self, signum: SupportsIndex) -> None: ...
    @property
    def signum(self) -> int: ...

@disjoint_base
class Child(Watcher[_T]):
    def __init__(
        self,
        pid: SupportsIndex,
        trace: object,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def set(self, pid: SupportsIndex, trace: object) -> None: ...
    rpid: int
    rstatus: int
    @property
    def lost(self) -> bool: ...
    @property
    def pid(self) -> int: ...
    @property
    def trace(self) -> bool: ...

@disjoint_base
class Stat(Watcher[_T]):
    def __init__(
        self,
        path: _Path,
        interval: _Seconds,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def set(self, path: _Path, interval: _Seconds) -> None: ...
    def stat(self) -> None: ...
    @property
    def path(self) -> str | bytes: ...
    @property
    def interval(self) -> float: ...
    @property
    def attr(self) -> StatResult | None: ...
    @property
    def current(self) -> StatResult | None: ...
    @property
    def previous(self) -> StatResult | None: ...

@disjoint_base
class Idle(Watcher[_T]):
    def __init__(
        self,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...

@disjoint_base
class Prepare(Watcher[_T]):
    def __init__(
        self,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...

@disjoint_base
class Check(Watcher[_T]):
    def __init__(
        self,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...

@disjoint_base
class Embed(Watcher[_T]):
    def __init__(
        self,
        other: Loop,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def set(self, other: Loop) -> None: ...
    def sweep(self) -> None: ...
    @property
    def other(self) -> Loop: ...

@disjoint_base
class Fork(Watcher[_T]):
    def __init__(
        self,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...

@disjoint_base
class Async(Watcher[_T]):
    def __init__(
        self,
        loop: Loop,
        callback: Callable[[Self, int], object] | None = None,
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...
    def send(self) -> None: ...
    @property
    def sent(self) -> bool: ...

@disjoint_base
class Cleanup(Watcher[_T]):
    def __init__(
        self,
        loop: Loop,
        callback: Callable[[Self, int], object],
        data: _T = ...,
        priority: SupportsIndex = 0,
        *,
        keepalive: object = True,
    ) -> None: ...

@final
class Once(Watcher[_T]):
    """Made by Loop.once() only."""

@final
class StatResult(tuple[int, ...]):
    """dev, rdev, ino, size, nlink, mode, uid, gid, atime, mtime, ctime (whole seconds)."""

    if sys.version_info >= (3, 13):
        def __replace__(self, /, **changes: Any) -> Self: ...

    @property
    def dev(self) -> int: ...
    @property
    def rdev(self) -> int: ...
    @property
    def ino(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def atime(self) -> float: ...
    @property
    def mtime(self) -> float: ...
    @property
    def ctime(self) -> float: ...
    @property
    def atime_ns(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def ctime_ns(self) -> int: ...
    __match_args__: Final = (
        "dev",
        "rdev",
        "ino",
        "size",
        "nlink",
        "mode",
        "uid",
        "gid",
    )
    n_fields: Final[int]
    n_sequence_fields: Final[int]
    n_unnamed_fields: Final[int]

EVFLAG_AUTO: Final[int]
EVFLAG_NOENV: Final[int]
EVFLAG_FORKCHECK: Final[int]
EVFLAG_NOINOTIFY: Final[int]
EVFLAG_SIGNALFD: Final[int]
EVFLAG_NOSIGMASK: Final[int]
EVFLAG_NOTIMERFD: Final[int]
EVBACKEND_SELECT: Final[int]
EVBACKEND_POLL: Final[int]
EVBACKEND_EPOLL: Final[int]
EVBACKEND_KQUEUE: Final[int]
EVBACKEND_DEVPOLL: Final[int]
EVBACKEND_PORT: Final[int]
EVBACKEND_LINUXAIO: Final[int]
EVBACKEND_IOURING: Final[int]
EVBACKEND_ALL: Final[int]
EVBACKEND_MASK: Final[int]
EVRUN_NOWAIT: Final[int]
EVRUN_ONCE: Final[int]
EVBREAK_CANCEL: Final[int]
EVBREAK_ONE: Final[int]
EVBREAK_ALL: Final[int]
EV_READ: Final[int]
EV_WRITE: Final[int]
EV_IO: Final[int]
EV_TIMER: Final[int]
EV_PERIODIC: Final[int]
EV_SIGNAL: Final[int]
EV_CHILD: Final[int]
EV_STAT: Final[int]
EV_IDLE: Final[int]
EV_PREPARE: Final[int]
EV_CHECK: Final[int]
EV_EMBED: Final[int]
EV_FORK: Final[int]
EV_CLEANUP: Final[int]
EV_ASYNC: Final[int]
EV_CUSTOM: Final[int]
EV_ERROR: Final[int]
EV_UNDEF: Final[int]
EV_NONE: Final[int]
EV_MINPRI: Final[int]
EV_MAXPRI: Final[int]
