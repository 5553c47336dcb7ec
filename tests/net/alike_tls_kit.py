"""What the random comparisons of TLS stand on: an end on a loop, and one that does TLS by hand."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st
from net_kit import some_bytes
from tls_kit import TLS_1_2, TLS_1_3, authority, certificate, client_context, server_context

from alike_kit import Buffered, Connection, End, Whole

VERSIONS = {"1.2": TLS_1_2, "1.3": TLS_1_3}
TROUBLES = ["name", "authority", "no certificate", "version"]
ALPN = st.sampled_from([(), (), ("a", "b"), ("b",), ("c",)])

# What both ends of TLS agree upon, or do not.
agreement = st.fixed_dictionaries(
    {
        "version": st.sampled_from(list(VERSIONS)),
        "trouble": st.sampled_from([None] * 4 + TROUBLES),
        "alpn": st.tuples(ALPN, ALPN),
    }
)


def context(agreement: dict[str, Any], server: bool) -> ssl.SSLContext:
    alpn = agreement["alpn"][server]
    return make_context(server, agreement["version"], agreement["trouble"], alpn)


@functools.cache
def make_context(server: bool, version: str, trouble: str | None, alpn: Any) -> ssl.SSLContext:
    if trouble == "version":
        version = "1.2" if server else "1.3"
    if server:
        host = "elsewhere" if trouble == "name" else "localhost"
        by = "theirs" if trouble == "authority" else "ours"
        made = server_context(VERSIONS[version], host=host, by=by)
        if trouble == "no certificate":
            made.verify_mode = ssl.CERT_REQUIRED
            authority("ours").configure_trust(made)
    else:
        made = client_context(VERSIONS[version])
        if trouble is None:
            certificate("client", "ours").configure_cert(made)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def words(error: Any) -> Any:
    """What an exception says, but for the line of _ssl.c that it is from."""
    if not isinstance(error, BaseException):
        return error
    names = [getattr(error, name, None) for name in ("errno", "reason", "verify_code")]
    return type(error), re.sub(r" \(_ssl\.c:\d+\)", "", str(error)), names


def told(context: dict[str, Any]) -> Any:
    """What an exception handler is told. Which call failed, each loop says in its own way."""
    pattern = r"(Exception in callback|Fatal error: protocol\.connection_lost).*"
    message = re.sub(pattern, "of a callback", context["message"])
    return message, words(context.get("exception"))


def digest(data: bytearray) -> tuple[int, int]:
    return len(data), zlib.crc32(data)


def known(transport: Any, peer: Any) -> Any:
    """What a transport tells of its connection."""
    get = transport.get_extra_info
    tls = get("ssl_object")
    return [
        get("peercert"),
        get("cipher"),
        get("compression"),
        type(tls),
        tls and (tls.version(), tls.selected_alpn_protocol(), tls.server_side),
        tls and (tls.server_hostname, tls.context is get("sslcontext")),
        type(get("sslcontext")),
        type(get("socket")).__name__,
        get("peername") == peer,
        get("nothing", "nothing"),
    ]


SIZES = st.sampled_from([0, 1, 100, 5000, 70_000])

step = st.one_of(
    st.tuples(st.just("write"), SIZES),
    st.tuples(st.just("writelines"), st.lists(SIZES, max_size=3)),
    st.tuples(st.just("write wrong"), st.sampled_from(["text", None])),
    st.tuples(
        st.sampled_from(
            [
                "close",
                "abort",
                "pause_reading",
                "resume_reading",
                "is_reading",
                "is_closing",
                "get_write_buffer_limits",
                "get_protocol",
                "set_protocol",
                "can_write_eof",
                "write_eof",
                "known",
                "raise",
                "below close",
                "below abort",
                "below is_closing",
                "below known",
            ]
        )
    ),
)
side = st.fixed_dictionaries(
    {
        "reactions": st.dictionaries(
            st.sampled_from(["made", "data", "eof", "lost"]), st.lists(step, max_size=2), max_size=2
        ),
        "keeps open": st.booleans(),
        "buffered": st.booleans(),
    }
)


class TlsEnd(End):
    """What the protocol of a transport sees and does, with TLS from the start or later."""

    def __init__(self, run: Connection, number: int, plan: dict[str, Any]) -> None:
        super().__init__(run, number, plan["reactions"])
        self.plan = plan
        self.peer: Any = None  # its name
        self.below: Any = None  # the transport that TLS goes through, if this had that
        self.plain = self.upgrading = False
        self.connected = self.ending = False
        self.paused = self.closed = self.failed = self.alone = self.distrusted = False
        self.pouring = False
        self.wrote = 0  # in plain

    def protocol(self, buffered: bool) -> Any:
        self.buffered = buffered
        return (Buffered if buffered else Whole)(self)

    def react(self, event: str, step: Any) -> None:
        self.do(step)

    def made(self, transport: Any) -> None:
        super().made(transport)
        self.connected = True

    def ended(self) -> Any:
        self.ending = True
        self.saw("eof", self.closed or len(self.data))
        return self.plan["keeps open"]

    def is_lost(self, error: BaseException | None) -> None:
        self.lost = True
        if error is not None:
            self.failed = True
            self.run.breaks()
        if not self.upgrading:  # asyncio's own tells of some failures of start_tls(), not of all
            self.saw("lost", words(error), self.closed or len(self.data))

    def spared(self, what: str) -> bool:
        """Whether asyncio's own loop has a fault there, or something of its own."""
        match what:
            case "write" | "writelines":
                # Sent behind the peer's close_notify, dropped behind a bare end; and who is told
                # first of a peer that has gone, and of what, is chance.
                return self.ending or self.alone
            case "pause_reading":  # the last of a handshake is sent when somebody reads or writes
                return not self.connected
            case "abort" | "raise":  # nor is it sent before the end
                return not self.connected
            case "close":
                # What has come with the handshake is still received, and an alert that crosses
                # with it is taken for the peer's end.
                return not self.connected or self.distrusted or self.pouring
            case "write_eof":  # start_tls() reports an error then, and waits for ever
                return self.plain
        return False

    def do(self, step: Any) -> None:
        what, arguments = step[0], step[1:]
        transport = self.transport
        if what.startswith("below"):
            transport, what = self.below, what.removeprefix("below ")
        if transport is None or self.spared(what):
            return
        self.breaks_off(what)
        try:
            match what:
                case "write":
                    result = transport.write(some_bytes(*arguments))
                    self.wrote += arguments[0] if self.plain else 0
                case "writelines":
                    result = transport.writelines([some_bytes(size) for size in arguments[0]])
                    self.wrote += sum(arguments[0]) if self.plain else 0
                case "write wrong":
                    result = transport.write(arguments[0])
                case "set_protocol":
                    result = transport.set_protocol(self.protocol(not self.plan["buffered"]))
                case "get_protocol":
                    result = transport.get_protocol().end is self
                case "known":
                    result = transport.is_closing() or known(transport, self.peer)
                case _:
                    result = getattr(transport, what)(*arguments)
        except TypeError:
            result = TypeError  # newer versions of asyncio name the types that may be written
        except Exception as error:
            result = words(error)
        self.paused = self.paused or what == "pause_reading"
        self.closed = self.closed or what in ("close", "abort")
        # asyncio's own raises AttributeError for some calls after close().
        self.note(what, *arguments, self.lost or self.closed or result)

    async def upgrade(self, context: ssl.SSLContext, server: bool, **options: Any) -> bool:
        """start_tls(), by which this end gets its next transport; whether it did."""
        self.plain = False
        if self.closed or self.lost:  # of what is lost, asyncio's own start_tls() waits for ever
            return False
        self.upgrading = True
        below = self.transport
        if not server:
            options["server_hostname"] = "localhost"
        upgraded = await self.run.loop.start_tls(
            below, below.get_protocol(), context, server_side=server, **options
        )
        if upgraded is not None:
            self.below, self.transport, self.upgrading = below, upgraded, False
        return upgraded is not None

    def has(self) -> None:
        """At rest."""
        asked = self.transport and not (self.lost or self.closed or self.upgrading)
        size = asked and self.transport.get_write_buffer_size()
        self.note("has", self.paused or self.closed or digest(self.data), size)


far_step = st.one_of(
    st.tuples(st.sampled_from(["says", "says in pieces"]), SIZES),
    st.tuples(
        st.sampled_from(
            [
                "says half",
                "says garbage",
                "says a broken record",
                "says and ends",
                "ends",
                "ends and shuts",
                "shuts",
                "closes",
                "resets",
            ]
        )
    ),
)


WRONG = ("says half", "says garbage", "says a broken record")


class Far:
    """The peer of a transport: an SSLObject on a socket, by hand."""

    def __init__(self, sock: socket.socket, near: TlsEnd, rest: Callable[[], Awaitable[None]]):
        self.sock, self.near, self.rest = sock, near, rest
        sock.setblocking(False)
        near.peer = sock.getsockname()
        self.tls: Any = None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.unsent = bytearray()
        self.plain, self.data = bytearray(), bytearray()
        self.shaken = self.eof = self.closed = False
        self.broken = self.ended = False  # its own last words
        self.end: Any = None  # how the transport ended

    def wrap(self, context: ssl.SSLContext, server: bool) -> None:
        host = None if server else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server, host)

    def send(self, data: bytes) -> None:
        self.unsent += data
        try:
            while self.unsent and not self.closed:
                del self.unsent[: self.sock.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent.clear()

    def receive(self) -> bool:
        """What the socket has; whether that is something."""
        some = False
        while not self.closed and not self.eof:
            try:
                piece = self.sock.recv(1 << 18)
            except BlockingIOError:
                break
            except OSError as error:
                self.end, self.eof = self.end or type(error), True
                break
            some = True
            if piece:
                plain = self.near.wrote - len(self.plain)
                self.plain += piece[:plain]
                self.incoming.write(piece[plain:])
            else:
                self.eof = True
                self.incoming.write_eof()
        return some

    def hear(self) -> bool:
        """Take what there is; whether something has moved."""
        some, before = self.receive(), len(self.unsent)
        if self.shaken:
            self.work(self.read)
        self.send(self.outgoing.read())
        return some or len(self.unsent) < before

    def work(self, function: Callable[..., Any], *arguments: Any) -> None:
        if self.end is not None:
            return
        try:
            function(*arguments)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.end = "said"
        except OSError as error:
            self.end = words(error)

    def read(self) -> None:
        while piece := self.tls.read(1 << 14):
            self.data += piece
        self.end = "said"

    def flight(self) -> None:
        """The next one of its handshake."""
        self.receive()
        self.work(self.handshake)
        self.send(self.outgoing.read())

    def handshake(self) -> None:
        self.tls.do_handshake()
        self.shaken = True

    def records(self, size: int) -> bytes:
        if size:
            self.work(self.tls.write, some_bytes(size))
        return self.outgoing.read()

    def ending(self) -> bytes:
        self.ended = True
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.outgoing.read()

    def shut(self) -> None:
        if self.ended and self.near.paused and not self.near.closed:
            return  # asyncio's own does not answer the close_notify then, when it is resumed
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    async def do(self, step: Any) -> None:
        what = step[0]
        says = what.startswith("says")
        # What comes after close() is an error on asyncio's own, and dropped on ours.
        if self.closed or (says and (self.near.closed or self.ended)):
            return
        if self.near.paused and what in ("resets", *WRONG):
            # Ours looks when it is resumed; and then asyncio's own drops what came before.
            return
        # What is more than a record may still be under way when its beginning is close()d at.
        self.near.pouring = self.near.pouring or (says and step[1:] > (5000,))
        ends = ("shuts", "ends and shuts") if self.near.buffered else ()
        if what in ("says garbage", "says a broken record", "closes", "resets", *ends):
            # asyncio's own drops what came before that in the same read, or what a buffer has not
            # had room for yet; and who is told first of an end depends on when it looks.
            await self.rest()
        match what:
            case "says garbage":
                self.send(b"HELO nobody\r\n" * 10)
            case "shuts":
                self.shut()
            case "closes" | "resets":
                if what == "resets":
                    linger = struct.pack("ii", 1, 0)
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.closed = self.near.alone = True
                self.sock.close()
            case _ if self.shaken:
                await self.speak(what, step[1] if len(step) > 1 else 1000)
        self.broken = self.broken or what in WRONG
        if self.broken:  # what is written now, ours would not send all of in one turn
            await self.rest()

    async def speak(self, what: str, size: int) -> None:
        match what:
            case "says":
                self.send(self.records(size))
            case "says half":
                self.send(self.records(size)[:-100])
            case "says in pieces":
                for start in range(0, size, 20_000):
                    records = self.records(min(size - start, 20_000))
                    self.send(records[:7])
                    await self.rest()
                    self.send(records[7:])
            case "says a broken record":
                record = bytearray(self.records(size))
                record[-1:] = [record[-1] ^ 1] if record else []
                self.send(bytes(record))
            case "says and ends" if not self.broken:
                self.send(self.records(size) + self.ending())
            case "ends" | "ends and shuts":
                if not self.broken:
                    self.send(self.ending())
                if what == "ends and shuts":
                    self.shut()
