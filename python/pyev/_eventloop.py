# mypy: disable-error-code="assignment,attr-defined,override,misc,no-untyped-call,no-any-return"
# asyncio documents the hooks used here ("Extending"), but its stubs leave them out.
"""The Python half of pyev.EventLoop: what runs per loop or per connection, never per callback."""

import asyncio
import contextlib
import contextvars
import errno
import functools
import io
import os
import selectors
import signal
import socket
import ssl
import sys
import threading
import warnings
import weakref
from asyncio import (
    SelectorEventLoop,
    SendfileNotAvailableError,
    base_events,
    constants,
    coroutines,
    events,
    format_helpers,
    sslproto,
    trsock,
    unix_events,
)
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from pyev import _core

__all__ = ["EventLoop", "new_event_loop", "run"]

# A module is imported once, however many threads make their first loop now.
_core._prepare()

_T = TypeVar("_T")
_P = TypeVar("_P", bound=asyncio.BaseProtocol)

# Python 3.14 deprecates the public one.
_iscoroutinefunction = getattr(coroutines, "_iscoroutinefunction", coroutines.iscoroutinefunction)

# Newer versions of asyncio move a file's position even when nothing was sent.
_SENDFILE_ALWAYS_SEEKS = SelectorEventLoop._sock_sendfile_update_filepos.__code__.co_argcount == 3

# As much as the kernel takes is more than the processor's cache keeps until it is read: between two
# ends of one loop, that is 2.3 GiB/s of 5.8. And the others have their turn.
_SENDFILE_PER_TURN = 256 * 1024

_NAMED_FAMILIES = [socket.AF_INET, *([socket.AF_INET6] if base_events._HAS_IPv6 else [])]

_ThreadedChildWatcher = getattr(
    unix_events, "_ThreadedChildWatcher" if sys.version_info >= (3, 14) else "ThreadedChildWatcher"
)


class _Selector(selectors.BaseSelector):
    """What asyncio's transports ask their loop's selector: who is watched, for their repr."""

    def __init__(self, loop: "EventLoop") -> None:
        object.__setattr__(self, "_loop", loop)

    # Virtual clocks put a select() of their own into an object like this, and wait for its call.
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"pyev's event loop polls by itself: it would never call another {name}()"
        )

    # Called by what takes back, like unittest.mock, what it could not put in.
    def __delattr__(self, name: str) -> None:
        pass

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        watched = self._loop._watching(fd)
        if not watched:
            raise KeyError(f"{fileobj!r} is not registered")
        mask = selectors.EVENT_READ if watched & _core.EV_READ else 0
        mask |= selectors.EVENT_WRITE if watched & _core.EV_WRITE else 0
        return selectors.SelectorKey(fileobj, fd, mask, None)

    def get_map(self) -> Any:
        return {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        raise NotImplementedError("pyev's event loop has add_reader and add_writer")

    def unregister(self, fileobj: Any) -> Any:
        raise NotImplementedError("pyev's event loop has remove_reader and remove_writer")

    def select(self, timeout: float | None = None) -> Any:
        raise NotImplementedError("pyev's event loop polls by itself")


class _SubprocessTransport(unix_events._UnixSubprocessTransport):  # type: ignore[name-defined]
    """asyncio's, but that it signals no stranger who has got the number of a child that is gone."""

    def send_signal(self, signal: int) -> None:
        # Newer Pythons ask nobody whether the number is still the child's, as Popen does.
        if self._proc is None or self._proc.returncode is None:
            super().send_signal(signal)


def _checking_timeouts(make: Any) -> Any:
    """Have what makes a server refuse its timeouts before it has made a socket."""

    @functools.wraps(make)
    async def checked(self: Any, *args: Any, **options: Any) -> Any:
        _tls_timeouts(options.get("ssl_handshake_timeout"), options.get("ssl_shutdown_timeout"))
        return await make(self, *args, **options)

    checked.__doc__ = getattr(asyncio.AbstractEventLoop, make.__name__).__doc__
    return checked


class EventLoop(_core.LoopBase, SelectorEventLoop):
    """An asyncio event loop on libev, open to every watcher through its `ev`.

    flags: EVFLAG_* and EVBACKEND_* bits for the pyev.Loop underneath. Raises what pyev.Loop() does.
    Everything else is asyncio's: see "Event Loop" in CPython's documentation.
    """

    # Until __init__ has been called:
    _closed = True
    _thread_id = None

    def __init__(self, flags: int = _core.EVFLAG_AUTO) -> None:
        _core.LoopBase.__init__(self, _core.Loop(flags))
        self._children: set[_core.Child[None]] = set()
        self._child_threads: Any = None
        self._signal_watchers: dict[int, _core.Signal[asyncio.Handle]] = {}
        self._handlers_before: dict[int, Any] = {}
        SelectorEventLoop.__init__(self, _Selector(self))

    # The native half has these too, and would come first. As attributes they work when modules have
    # been cleared; the types are for checkers that would have to guess.
    __del__: Callable[["EventLoop"], None] = SelectorEventLoop.__del__
    __repr__: Callable[["EventLoop"], str] = SelectorEventLoop.__repr__

    if not TYPE_CHECKING:  # for which they are asyncio's
        create_server = _checking_timeouts(SelectorEventLoop.create_server)
        create_unix_server = _checking_timeouts(SelectorEventLoop.create_unix_server)

    # asyncio's loop wakes itself through a pair of sockets, which libev's eventfd makes needless.
    def _make_self_pipe(self) -> None:
        pass

    def _close_self_pipe(self) -> None:
        pass

    def run_forever(self) -> None:
        """Run until stop() is called."""
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        hooks = sys.get_asyncgen_hooks()
        thread = threading.get_ident()
        try:
            self._thread_id = thread
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            events._set_running_loop(self)
            self._run()
        finally:
            if self._thread_id == thread:  # or another was quicker, and still runs it
                self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*hooks)

    # As asyncio's. Tools that replace that one (nest_asyncio) have it call what this loop lacks.
    def run_until_complete(self, future: Awaitable[_T]) -> _T:
        """Run until it is done; returns its result, or raises its exception."""
        self._check_closed()
        self._check_running()
        made_here = not asyncio.isfuture(future)
        task: Any = asyncio.ensure_future(future, loop=self)
        if made_here:
            task._log_destroy_pending = False
        stop = base_events._run_until_complete_cb
        task.add_done_callback(stop)
        try:
            self.run_forever()
        except BaseException:
            if made_here and task.done() and not task.cancelled():
                task.exception()  # nobody else can ask for it, so nobody is to be warned of it
            raise
        finally:
            task.remove_done_callback(stop)
        if not task.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return task.result()

    def close(self) -> None:
        """Close the loop, and the pyev.Loop underneath. It must not be running."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        try:
            if sys.is_finalizing() and self._signal_watchers:
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, "
                    "skipping signal handlers removal",
                    ResourceWarning,
                    stacklevel=2,
                    source=self,
                )
            else:
                for signum in list(self._signal_watchers):
                    self.remove_signal_handler(signum)
        finally:  # only the main thread may remove them
            SelectorEventLoop.close(self)
            self._close()

    # Called by the native half, when something is wrong or debug mode is on.

    def _source_traceback(self) -> Any:
        return format_helpers.extract_stack(sys._getframe(1))

    def _run_in_debug(self, handle: asyncio.Handle) -> None:
        start = self.time()
        self._current_handle = handle
        try:
            handle._run()
        finally:
            self._current_handle = None
        duration = self.time() - start
        if duration >= self.slow_callback_duration:
            base_events.logger.warning(
                "Executing %s took %.3f seconds", base_events._format_handle(handle), duration
            )
        # A task's exception knows this frame by its traceback: what it holds would be a cycle.
        del handle

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._add_callback(handle)
        return handle

    def _leave_by(self, error: BaseException) -> None:
        raise error

    def _report_handle(self, handle: asyncio.Handle, error: BaseException) -> None:
        callback = format_helpers._format_callback_source(handle._callback, handle._args)
        context = {
            "message": f"Exception in callback {callback}",
            "exception": error,
            "handle": handle,
        }
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        self.call_exception_handler(context)

    def _report_watcher(self, source: object, error: BaseException) -> None:
        stopped = isinstance(source, _core.Watcher)
        what = "A watcher was stopped" if stopped else "Exception in callback of a watcher"
        try:
            described = repr(source)
        except Exception:
            described = object.__repr__(source)
        self.call_exception_handler({"message": f"{what}: {described}", "exception": error})

    def _report_unwatched(self, handle: asyncio.Handle, fd: int, refused: int) -> None:
        context: dict[str, Any] = {"handle": handle}
        if refused:
            context["message"] = f"File descriptor {fd} cannot be watched"
            context["exception"] = OSError(refused, os.strerror(refused))
        else:
            context["message"] = (
                f"File descriptor {fd} was closed before remove_reader or remove_writer"
            )
        self.call_exception_handler(context)

    def _note_duration(self, transport: object, seconds: float) -> None:
        if seconds >= self.slow_callback_duration:
            base_events.logger.warning("Executing %r took %.3f seconds", transport, seconds)

    def _transport_failed(
        self, transport: object, protocol: object, error: BaseException, message: str, fatal: bool
    ) -> None:
        if fatal and isinstance(error, OSError):
            base_events.logger.debug("%r: %s", transport, message, exc_info=error)
            return
        self.call_exception_handler(
            {"message": message, "exception": error, "transport": transport, "protocol": protocol}
        )

    def _transport_note(self, transport: object, text: str) -> None:
        base_events.logger.debug("%r %s", transport, text)

    # Transports: asyncio's hooks. From Python 3.15 on it gives them a context.

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: Any = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        if not _is_plain(sock, "recv", "recv_into", "send", "sendmsg", "shutdown"):
            return super()._make_socket_transport(
                sock, protocol, waiter, extra=extra, server=server, **_given(context)
            )
        self._ensure_fd_no_transport(sock)
        return _core.make_socket_transport(self, sock, protocol, waiter, extra, server, context)

    async def _create_connection_transport(
        self,
        sock: Any,
        protocol_factory: Any,
        ssl: Any,
        server_hostname: str | None,
        server_side: bool = False,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: contextvars.Context | None = None,
    ) -> tuple[Any, Any]:
        try:
            sock.setblocking(False)
            if context is None and sys.version_info >= (3, 15):
                context = contextvars.copy_context()
            protocol = protocol_factory()
            waiter = self.create_future()
            if ssl:
                transport = self._make_ssl_transport(
                    sock,
                    protocol,
                    None if isinstance(ssl, bool) else ssl,
                    waiter,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                    **_given(context),
                )
            else:
                transport = self._make_socket_transport(sock, protocol, waiter, **_given(context))
        except BaseException:
            # Unless it was given twice: then it is a connection's that goes on.
            if sock.fileno() < 0 or self._transport_of(sock.fileno()) is None:
                sock.close()
            raise
        try:
            await waiter
        except BaseException:
            # The exception's traceback has this frame, which has the future that has the exception.
            del waiter
            transport.close()
            # Of these its own end takes care.
            del protocol, transport
            raise
        return transport, protocol

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        ssl_handshake_timeout: Any = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: Any = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> Any:
        tls = self._ssl_transport(
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            context=context,
        )
        self._make_socket_transport(rawsock, tls, extra=extra, server=server, **_given(context))
        return tls

    def _ssl_transport(
        self,
        protocol: Any,
        sslcontext: Any,
        waiter: Any,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: Any,
        shutdown_timeout: Any,
        makes_connection: bool = True,
        context: contextvars.Context | None = None,
    ) -> Any:
        return _core.make_ssl_transport(
            self,
            protocol,
            sslcontext or sslproto._create_transport_context(server_side, server_hostname),
            waiter,
            server_side,
            (server_hostname or None) if not server_side else None,
            *_tls_timeouts(handshake_timeout, shutdown_timeout),
            makes_connection,
            context,
        )

    def _peer_certificate(self, tls: Any) -> Any:
        """What getpeercert() would give, of a connection that has failed."""
        chain = tls._sslobj.get_unverified_chain()
        if not chain:
            return None
        return chain[0].get_info() if tls.context.verify_mode else {}

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Go on through TLS on a connection that there is, and return the new transport.

        None if it was closed before the handshake was done. Raises TypeError for a transport that
        cannot, and what the handshake raises.
        """
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        if transport.is_closing() and transport.get_protocol() is None:
            return None  # it is lost, and would never tell
        waiter = self.create_future()
        tls = self._ssl_transport(
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            makes_connection=False,
        )
        # Nothing may come before connection_made().
        transport.pause_reading()
        transport.set_protocol(tls)
        callbacks = [self.call_soon(tls.connection_made, transport)]
        if server_side and (early := _take_buffered(protocol)):
            callbacks.append(self.call_soon(tls.data_received, early))
        callbacks.append(self.call_soon(transport.resume_reading))
        try:
            return await waiter
        except BaseException:
            del waiter  # it has the exception, whose traceback has this frame
            transport.close()
            for callback in callbacks:
                callback.cancel()
            raise

    def _make_datagram_transport(
        self, sock: Any, protocol: Any, address: Any = None, waiter: Any = None, extra: Any = None
    ) -> Any:
        if not _is_plain(sock, "recv", "recvfrom", "send", "sendto"):
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        self._ensure_fd_no_transport(sock)
        return _core.make_datagram_transport(self, sock, protocol, waiter, extra, address)

    def _make_read_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> Any:
        extra = {**(extra or {}), "pipe": pipe}
        return _core.make_pipe_transport(self, pipe, protocol, waiter, extra, False)

    def _make_write_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> Any:
        extra = {**(extra or {}), "pipe": pipe}
        return _core.make_pipe_transport(self, pipe, protocol, waiter, extra, True)

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        timeouts = _tls_timeouts(ssl_handshake_timeout, ssl_shutdown_timeout)
        if not _is_plain(sock, "accept") or not self._are_ours(_ACCEPTING):
            super()._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, *timeouts, **_given(context)
            )
            return
        tls = (sslcontext, *timeouts) if sslcontext else None
        self._serve(protocol_factory, sock, server, backlog, tls, context)

    def _serve(
        self,
        protocol_factory: Any,
        sock: Any,
        server: Any,
        backlog: int,
        tls: Any,
        context: contextvars.Context | None = None,
    ) -> None:
        # Each connection has a copy of the context that this runs in.
        serving = protocol_factory, sock, server, backlog, tls
        self._add_reader(sock, _core.accept_connections, self, *serving, context=context)

    def _accept_failed(
        self, error: OSError, protocol_factory: Any, sock: Any, server: Any, backlog: int, tls: Any
    ) -> None:
        self.call_exception_handler(
            {
                "message": "socket.accept() out of system resource",
                "exception": error,
                "socket": trsock.TransportSocket(sock),
            }
        )
        self._remove_reader(sock)
        self.call_later(
            constants.ACCEPT_RETRY_DELAY,
            self._serve_again,
            protocol_factory,
            sock,
            server,
            backlog,
            tls,
        )

    def _serve_again(self, protocol_factory: Any, sock: Any, *serving: Any) -> None:
        if sock.fileno() >= 0:  # nobody has closed the server meanwhile
            self._serve(protocol_factory, sock, *serving)

    def _welcome_failed(self, error: BaseException) -> None:
        if self._debug:
            self.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": error,
                }
            )

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int) -> int:
        empty = transp._make_empty_waiter()
        reading = transp.is_reading()
        transp.pause_reading()
        try:
            await empty
            return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        except OSError as error:
            if transp.is_closing():
                raise ConnectionError("Connection is closed by peer") from error
            raise
        finally:
            transp._reset_empty_waiter()
            if reading:
                transp.resume_reading()

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        super()._ensure_fd_no_transport(fd)
        transport = self._transport_of(fd if isinstance(fd, int) else int(fd.fileno()))
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    # Names.

    async def _getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """getaddrinfo() for what the native half has no answer to."""
        if not self._debug and _is_numeric(host) and isinstance(port, int | None):
            return socket.getaddrinfo(host, port, family, type, proto, flags)
        return await SelectorEventLoop.getaddrinfo(
            self, host, port, family=family, type=type, proto=proto, flags=flags
        )

    # Sockets, as far as it is per connection.

    async def create_connection(
        self, protocol_factory: Callable[[], _P], host: Any = None, port: Any = None, **options: Any
    ) -> tuple[asyncio.Transport, _P]:
        """Connect to a TCP server; return the transport and its protocol.

        asyncio: loop.create_connection. A numeric host, a number as port, and no options but those
        of TLS take a short way.
        """
        short = not self._debug and self._connects_as_ever()
        tls = None
        if short and options:
            tls = _client_tls(host, **options) if options.keys() <= _TLS_OPTIONS else None
            short = tls is not None
        if short:
            waiter = self.create_future()
            made: Any = _core.connect_socket(self, protocol_factory, host, port, waiter, tls)
            if made is not None:
                if isinstance(made[0], socket.socket):
                    try:
                        made[0].setblocking(False)
                        await self._connected(*made)
                    except BaseException:
                        made[0].close()
                        raise
                    sslcontext, hostname, handshake, shutdown = tls or (None, None, None, None)
                    return await self._create_connection_transport(
                        made[0], protocol_factory, sslcontext, hostname, False, handshake, shutdown
                    )
                try:
                    await waiter
                except BaseException:
                    del waiter  # as in _create_connection_transport()
                    made[0].close()
                    del made
                    raise
                return made
        return await super().create_connection(protocol_factory, host, port, **options)

    def _connects_as_ever(self) -> bool:
        return (
            self._are_ours(_CONNECTING)
            and socket.socket is _socket
            and vars(base_events)["socket"] is socket
        )

    def _are_ours(self, hooks: dict[str, Any]) -> bool:
        """Whether nobody has put something of his own where asyncio's way would pass."""
        own = type(self)
        return (
            own is EventLoop or all(getattr(own, name) is used for name, used in hooks.items())
        ) and self.__dict__.keys().isdisjoint(hooks)

    async def _connected(self, sock: socket.socket, address: Any) -> None:
        """Wait for a socket that is connecting."""
        await self._sock_wait(sock, _core.EV_WRITE)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, f"Connect call failed {address}")

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket that does not block. A host's name is looked up."""
        base_events._check_ssl_socket(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock.family in _NAMED_FAMILIES:
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            _, _, _, _, address = resolved[0]
        try:
            return sock.connect(address)
        except (BlockingIOError, InterruptedError):
            pass  # under way
        await self._connected(sock, address)

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        try:
            source = file.fileno()
            size = count or os.fstat(source).st_size
        except (AttributeError, io.UnsupportedOperation, OSError):
            raise SendfileNotAvailableError("not a regular file") from None
        if not size:
            return 0
        sent = 0
        try:
            while True:
                try:
                    part = os.sendfile(
                        sock.fileno(), source, offset + sent, min(size, _SENDFILE_PER_TURN)
                    )
                except (BlockingIOError, InterruptedError):
                    part = -1
                except OSError as error:
                    if not sent:
                        raise SendfileNotAvailableError("os.sendfile call failed") from error
                    if error.errno == errno.ENOTCONN:
                        raise ConnectionError("socket is not connected", errno.ENOTCONN) from error
                    raise
                if part == 0:
                    return sent
                if part > 0:
                    sent += part
                    if count:
                        size = count - sent
                    if not size:
                        return sent
                await self._sock_wait(sock, _core.EV_WRITE)
        finally:
            if sent or _SENDFILE_ALWAYS_SEEKS:
                # Not of what was refused, nor of a file that is closed by now: its number may be
                # another's, and whoever cancelled this is to hear of that and of nothing else.
                with contextlib.suppress(OSError, ValueError):
                    os.lseek(file.fileno(), offset + sent, os.SEEK_SET)

    # Child processes.

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **options: Any,
    ) -> Any:
        waiter = self.create_future()
        transport = _SubprocessTransport(
            self,
            protocol,
            args,
            shell,
            stdin,
            stdout,
            stderr,
            bufsize,
            waiter=waiter,
            extra=extra,
            **options,
        )
        self._watch_child(transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        return transport

    def _watch_child(self, transport: Any) -> None:
        context = contextvars.copy_context()

        def ended(watcher: _core.Child[None], _revents: int) -> None:
            self._children.discard(watcher)
            watcher.stop()
            self._child_ended(transport, None if watcher.lost else watcher.rstatus, context)

        watcher = self.ev.child(transport.get_pid(), False, ended)
        try:
            watcher.start()
        except ProcessLookupError:
            # SIGCHLD is ignored, and it has ended already.
            self._child_ended(transport, None, context)
        except (_core.Error, OSError):
            # The kernel has no pidfds, or the process no descriptor to spare: a thread waits.
            self._child_threads = self._child_threads or _ThreadedChildWatcher()
            self._child_threads.add_child_handler(
                transport.get_pid(), self._child_watcher_callback, transport
            )
        else:
            self._children.add(watcher)

    def _child_ended(
        self, transport: Any, status: int | None, context: contextvars.Context
    ) -> None:
        pid, process = transport.get_pid(), transport.get_extra_info("subprocess")
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
        elif process.returncode is not None:
            code = process.returncode  # Popen itself was quicker
        else:
            code = 255
            base_events.logger.warning(
                "child process pid %d exit status already read: will report returncode 255", pid
            )
        # From here on nobody signals whoever gets the number next.
        process.returncode = code
        self.call_soon(self._child_watcher_callback, pid, code, transport, context=context)

    # Signals.

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Call callback(*args) in the loop when the process gets the signal `sig`.

        A handler that another event loop has for it is removed there. Raises TypeError for a
        coroutine, ValueError for what is no signal, RuntimeError outside the main thread, while
        another one runs the loop, for a signal that cannot be caught, when a Signal watcher of
        another loop has it, or when another event loop has it that another thread runs.
        """
        if coroutines.iscoroutine(callback) or _iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signal handlers can be added in the main thread only")
        handle = events.Handle(callback, args, self, None)
        watcher = self._signal_watchers.get(sig)
        if watcher is not None and watcher.active:
            watcher.data = handle  # a signal that has come is still the former's, as on asyncio
            # What was installed over it meanwhile is not.
            if sig in self._handlers_before and signal.getsignal(sig) is not _feed:
                self._exchange_handler(sig, _feed)
            return
        self._forget_signal(sig)  # a loop of the child process may have taken it from its parent's
        try:
            watcher = self.ev.signal(sig, self._signalled, handle, _core.EV_MAXPRI)
            # As on asyncio, the last one to ask has it. start() refuses while the other one runs in
            # another thread; if that thread was left behind by a fork, start() has taken it.
            other = _signal_loops.get(sig)
            theirs = None
            if other is not None and other._thread_id in (None, threading.get_ident()):
                theirs = other._signal_watchers.get(sig)
                other.remove_signal_handler(sig)
            try:
                watcher.start()
            except _core.Error:
                # That loop has another watcher of it, which is no handler's.
                if other is not None and theirs is not None:
                    other.add_signal_handler(sig, theirs.data._callback, *theirs.data._args)
                raise
            if other is not None:
                other._forget_signal(sig)
        except ValueError:
            raise RuntimeError(f"sig {sig} cannot be caught") from None
        except _core.Error as error:
            raise RuntimeError(str(error)) from None
        self._signal_watchers[sig] = watcher
        _signal_loops[sig] = self
        self._keep_signals(True)
        # A program may install another handler for a while, as uvicorn's server does, and then put
        # back what Python says was there before: that has to be one that reaches the watcher.
        before = signal.getsignal(sig)
        if before is not None:
            self._handlers_before[sig] = self._exchange_handler(sig, _feed)

    def _signalled(self, watcher: _core.Signal[asyncio.Handle], _revents: int) -> None:
        self._add_callback(watcher.data)

    def _signalled_elsewhere(self, signum: int) -> None:
        # Python's handler was called, so somebody installed one over libev's: asyncio calls both.
        watcher = self._signal_watchers.get(signum)
        if watcher is not None and signal.getsignal(signum) is not _feed:
            self._add_callback(watcher.data)

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the handler of a signal; return whether there was one."""
        self._check_signal(sig)
        watcher = self._signal_watchers.get(sig)
        if watcher is None:
            return False
        watcher.stop()
        self._forget_signal(sig)
        return True

    def _forget_signal(self, sig: int) -> None:
        """Put Python's handler back; the watcher is stopped."""
        if self._signal_watchers.pop(sig, None) is None:
            return
        before = self._handlers_before.pop(sig, None)
        # A Runner's cancels its task, and it takes that away again when the task is done.
        if isinstance(before, functools.partial):
            task = before.keywords.get("main_task")
            if isinstance(task, asyncio.Future) and task.done():
                before = signal.default_int_handler
        if before is not None and signal.getsignal(sig) is _feed:
            self._exchange_handler(sig, before)
        if not self._signal_watchers:
            self._keep_signals(False)


# The loops whose handlers are in use, by signal.
_signal_loops: weakref.WeakValueDictionary[int, EventLoop] = weakref.WeakValueDictionary()

# What asyncio's own create_connection() calls on the way to a numeric address, and what for a
# connection that comes in.
_CONNECTING = {
    name: getattr(EventLoop, name)
    for name in (
        "_connect_sock",
        "_create_connection_transport",
        "_ensure_resolved",
        "_make_socket_transport",
        "_make_ssl_transport",
        "create_future",
        "getaddrinfo",
        "sock_connect",
    )
}
_ACCEPTING = {
    name: getattr(EventLoop, name)
    for name in (
        "_accept_connection",
        "_accept_connection2",
        "_make_socket_transport",
        "_make_ssl_transport",
    )
}
# The module may have another by now, and what a test puts there need not be a class.
_socket = socket.socket

_TLS_OPTIONS = {"ssl", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout"}


def _is_numeric(host: object) -> bool:
    """Whether a host is an address that nobody has to be asked about."""
    if not isinstance(host, str):
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _tls_timeouts(handshake: Any, shutdown: Any) -> tuple[float, float]:
    """The seconds that a TLS handshake and a shutdown may take, as they are given or by default."""
    for name, value in (("handshake", handshake), ("shutdown", shutdown)):
        if value is not None and value <= 0:
            raise ValueError(f"ssl_{name}_timeout should be a positive number, got {value}")
    return (
        constants.SSL_HANDSHAKE_TIMEOUT if handshake is None else handshake,
        constants.SSL_SHUTDOWN_TIMEOUT if shutdown is None else shutdown,
    )


def _client_tls(
    host: Any,
    ssl: Any = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> tuple[Any, str | None, float, float] | None:
    """The context, the server's name and the timeouts of create_connection() to an address.

    None without TLS.
    """
    if not ssl:
        return None
    name = host if server_hostname is None else server_hostname
    context = ssl
    if isinstance(ssl, bool):
        if not _is_numeric(host):
            return None  # asyncio makes the context, which takes its time, for a name
        context = sslproto._create_transport_context(False, name)
    return context, name or None, *_tls_timeouts(ssl_handshake_timeout, ssl_shutdown_timeout)


def _take_buffered(protocol: Any) -> bytes:
    """What a stream's reader has read already, and the TLS client sent behind its plain words."""
    reader = isinstance(protocol, asyncio.StreamReaderProtocol) and protocol._stream_reader
    if not reader:
        return b""
    early = bytes(reader._buffer)
    reader._buffer.clear()
    return early


def _given(context: contextvars.Context | None) -> dict[str, contextvars.Context]:
    """For what takes one from Python 3.15 on."""
    return {} if context is None else {"context": context}


def _is_plain(sock: Any, *methods: str) -> bool:
    """Whether the socket is used as it is; a class of its own may want to see what passes."""
    own = type(sock)
    if own is _socket:
        return True
    if not issubclass(own, socket.SocketType):
        return False  # something that only looks like one
    return all(getattr(own, name, None) is getattr(_socket, name) for name in methods)


def _feed(signum: int, _frame: object) -> None:
    """Python's handler of a signal that an event loop has one for."""
    _core.feed_signal(signum)


def new_event_loop() -> EventLoop:
    """Make an EventLoop: for asyncio.run(..., loop_factory=...), asyncio.Runner, uvicorn, anyio."""
    return EventLoop()


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a coroutine on a new EventLoop and return its result, as asyncio.run() does.

    debug: debug mode on or off; None leaves it to the environment and `python -X dev`.
    loop_factory: makes the loop, if it is not to be a plain EventLoop(). Python 3.11 has it too.
    Raises RuntimeError inside a running event loop.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("pyev.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory or new_event_loop) as runner:
        return runner.run(main)
