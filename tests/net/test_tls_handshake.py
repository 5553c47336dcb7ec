"""Handshakes: those that succeed, and what becomes of those that do not."""

import asyncio
import contextlib
import gc
import socket
import ssl
import weakref

import pytest
from net_kit import Recorder, open_sockets
from tls_kit import (
    TLS_1_2,
    TLS_1_3,
    TlsPeer,
    authority,
    certificate,
    client_context,
    server_context,
    strict,
)

KEEPS_IT = "keeps the alert to itself"
SETTLED = ("cipher", "compression", "peercert", "sslcontext", "ssl_object")
SHORT = 0.05  # seconds; nothing else in these tests would end them


def fields(error):
    names = ("errno", "library", "reason", "verify_code", "verify_message")
    return type(error), *(getattr(error, name, None) for name in names)


def other_side(side):
    return "server" if side == "client" else "client"


def by_hand(client, server, hostname="localhost"):
    """What Python's ssl itself says at both ends of the same handshake: client's, server's."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=hostname),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    errors = [None, None]
    for _ in range(10):
        for number, end in enumerate(ends):
            if errors[number] is None:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    errors[number] = error
    return errors


def failing():
    """Who refuses the other one, and contexts that cannot agree: client's, server's."""
    yield "wrong host", "client", client_context(), server_context(host="example.org")
    yield "expired", "client", client_context(), server_context(by="expired")
    yield "unknown authority", "client", client_context(), server_context(by="others")
    yield "no common version", "server", client_context(TLS_1_2), server_context(TLS_1_3)
    yield "no common version either", "server", client_context(TLS_1_3), server_context(TLS_1_2)
    client, server = client_context(TLS_1_2), server_context(TLS_1_2)
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    server.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    yield "no common cipher", "server", client, server
    server = server_context(TLS_1_2)
    server.verify_mode = ssl.CERT_REQUIRED
    yield "no certificate of the client's", "server", client_context(TLS_1_2), server
    client = client_context(TLS_1_2)
    certificate("someone", "others").configure_cert(client)
    server = server_context(TLS_1_2)
    server.verify_mode = ssl.CERT_REQUIRED
    authority("ours").configure_trust(server)
    yield "a client's certificate of an unknown authority", "server", client, server


FAILING = {name: rest for name, *rest in failing()}
REFUSED_BY = [(name, side) for name, (side, *_) in FAILING.items()]


@pytest.mark.parametrize("what", FAILING)
async def test_a_client_is_told_why(tls, net, what):
    """What create_connection() raises is what ssl itself raises, field by field."""
    _, client, server = FAILING[what]
    expected, _ = by_hand(client, server)
    protocol = Recorder()
    peer, task = await tls.dial("client", protocol, context=client)
    other = TlsPeer(peer, server, server_side=True)
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await other.handshake()
    with pytest.raises(ssl.SSLError) as caught:
        await task
    assert fields(caught.value) == fields(expected)
    assert str(caught.value).partition(" (_ssl.c")[0] == str(expected).partition(" (_ssl.c")[0]
    assert protocol.calls == []
    with contextlib.suppress(ConnectionError):
        assert len(await peer.read_all()) < 100  # an alert at most, and the end


@pytest.mark.parametrize("what", FAILING)
async def test_a_server_drops_who_fails(tls, net, what):
    """Its protocol hears nothing; in debug mode the loop tells."""
    _, client, server = FAILING[what]
    _, expected = by_hand(client, server)
    protocol = Recorder()
    peer, task = await tls.dial("server", protocol, context=server)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await TlsPeer(peer, client, server_side=False).handshake()
    with contextlib.suppress(ConnectionError):
        await peer.read_all()
    await net.turn(3)
    assert protocol.calls == []
    task.cancel()
    if net.loop.get_debug():
        (report,) = net.reported(type(expected))
        assert fields(report["exception"]) == fields(expected)


@pytest.mark.asyncio_fails(KEEPS_IT)
@pytest.mark.parametrize(("what", "side"), REFUSED_BY)
async def test_who_is_refused_gets_the_alert(tls, side, net, what):
    """The end by hand is told what it is told by another one by hand."""
    _, client, server = FAILING[what]
    expected = by_hand(client, server)[["client", "server"].index(other_side(side))]
    protocol = Recorder()
    peer, task = await tls.dial(side, protocol, context=client if side == "client" else server)
    other = TlsPeer(peer, server if side == "client" else client, side == "client")
    try:
        await other.handshake()
        await other.read(1)
    except ssl.SSLError as error:
        assert fields(error) == fields(expected)
    else:
        raise AssertionError("no alert")
    finally:
        await asyncio.wait([task], timeout=0 if side == "server" else None)
        task.cancel() or task.exception()
        await net.turn(3)
        net.reports.clear()


ENDS = ["eof", "reset"]


@pytest.mark.parametrize("after", ["nothing", "half a hello", "hello"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_client_loses_its_peer_midway(tls, side, net, end, after):
    protocol = Recorder()
    peer, task = await tls.dial(side, protocol)
    if side == "client":
        await peer.read(1)  # its hello is there
    other = TlsPeer(peer, tls.context(side), side == "client")
    with contextlib.suppress(ssl.SSLWantReadError):
        if side == "client":
            other.incoming.write(b"\x16\x03\x01" + peer.read_now()[2:])
        other.tls.do_handshake()
    hello = other.outgoing.read()
    if after != "nothing":
        await peer.send(hello[: len(hello) // 2] if after != "hello" else hello[:-1])
        await net.turn(3)
    peer.shutdown() if end == "eof" else peer.reset()
    if side == "client":
        with pytest.raises(ConnectionResetError):
            await task
    else:
        if end == "eof":
            await peer.read_all()
        await net.calm()
        task.cancel()
        tls.refused(ConnectionResetError)
    assert protocol.calls == []


@pytest.mark.parametrize(
    "junk",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PROXY TCP4\r\n" * 9, bytes(100), b"\xff" * 50],
    ids=["http", "proxy", "zeroes", "ones"],
)
async def test_what_is_not_tls(tls, side, net, junk):
    protocol = Recorder()
    peer, task = await tls.dial(side, protocol)
    reason = "HTTP_REQUEST" if junk[:4] == b"GET " else "WRONG_VERSION_NUMBER"
    await peer.send(junk)
    if side == "client":
        with pytest.raises(ssl.SSLError) as caught:
            await task
        assert caught.value.library == "SSL"
        assert caught.value.reason == reason
    with contextlib.suppress(ConnectionError):
        await peer.read_all()
    await net.turn(3)
    assert protocol.calls == []
    task.cancel()
    if side == "server" and net.loop.get_debug():
        (report,) = net.reported(ssl.SSLError)
        assert report["exception"].reason == reason


# Who says nothing


async def test_a_silent_client_is_dropped(tls, net):
    protocol = Recorder()
    peer, task = await tls.dial("server", protocol, ssl_handshake_timeout=SHORT)
    assert await peer.read_all() == b""
    await net.turn(3)
    assert protocol.calls == []
    task.cancel()
    tls.refused(ConnectionAbortedError)


async def dribble(peer, data, pause):
    for byte in data:
        await peer.send(bytes([byte]))
        await asyncio.sleep(pause)


@pytest.mark.parametrize("pause", [0.0, 0.004])
async def test_a_slow_client_is_dropped_all_the_same(tls, net, pause):
    """Each byte of it is progress, but not enough."""
    protocol = Recorder()
    peer, task = await tls.dial("server", protocol, ssl_handshake_timeout=SHORT)
    hello = b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03" + bytes(10_000)
    sending = asyncio.ensure_future(dribble(peer, hello * 1000, pause))
    with pytest.raises(ConnectionError):
        await sending
    assert protocol.calls == []
    await net.turn(3)
    task.cancel()
    # Whoever sends zeroes for ever, and quickly, may also send what is no hello.
    if net.loop.get_debug():
        (report,) = net.reports
        assert isinstance(report["exception"], (ConnectionAbortedError, ssl.SSLError))
        net.reports.clear()


async def test_others_are_served_beside_silent_clients(tls, net):
    protocols = []

    def make():
        protocols.append(Recorder())
        return protocols[-1]

    before = open_sockets()
    async with tls.serving(make, ssl_handshake_timeout=0.3) as address:
        silent = [net.peer(socket.create_connection(address)) for _ in range(20)]
        await silent[0].send(b"\x16\x03")
        client = await tls.call(Recorder(), address)
        client.transport.write(b"served")
        await net.turn(3)
        (served,) = (protocol for protocol in protocols if protocol.calls)
        await served.until(lambda: served.data == b"served")
        for peer in silent:
            assert await peer.read_all() == b""
            peer.close()
        assert sum(bool(protocol.calls) for protocol in protocols) == 1
        client.transport.abort()
        await client.lost()
        await served.lost()
    await net.calm()
    tls.refused(*[ConnectionAbortedError] * len(silent))
    assert open_sockets() == before


async def test_a_silent_server_is_given_up(tls, net):
    protocol = Recorder()
    peer, task = await tls.dial("client", protocol, ssl_handshake_timeout=SHORT)
    with pytest.raises(ConnectionAbortedError) as caught:
        await task
    assert str(caught.value) == (
        f"SSL handshake is taking longer than {SHORT} seconds: aborting the connection"
    )
    assert protocol.calls == []
    assert (await peer.read_all())[:1] == b"\x16"


async def test_the_timeout_ends_with_the_handshake(tls, side, net):
    protocol, peer = await tls.connect(side, ssl_handshake_timeout=1.0)  # a busy machine has time
    await asyncio.sleep(1.1)
    await peer.send(b"later")
    await protocol.until(lambda: protocol.data)
    protocol.transport.write(b"too")
    assert await peer.read(3) == b"too"


@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1, 0.0])
async def test_timeouts_that_are_none(tls, net, option, value):
    protocol, peer = await net.connect("unix")
    with pytest.raises(ValueError, match=f"{option} should be a positive number, got {value}"):
        await net.loop.start_tls(protocol.transport, protocol, client_context(), **{option: value})
    protocol.transport.write(b"as before")
    assert await peer.read(9) == b"as before"


@pytest.mark.asyncio_fails("asks when somebody connects")
@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("kind", ["server", "unix_server"])
async def test_timeouts_that_are_none_of_a_server(tls, net, tmp_path, option, kind):
    """Nothing is bound by then."""
    address = ("127.0.0.1", 0) if kind == "server" else (tmp_path / "socket",)
    create = getattr(net.loop, f"create_{kind}")
    with pytest.raises(ValueError, match=f"{option} should be a positive number, got 0"):
        await create(Recorder, *address, ssl=server_context(), **{option: 0})
    assert not list(tmp_path.iterdir())


async def test_cancelled_midway(tls, net):
    protocol = Recorder()
    peer, task = await tls.dial("client", protocol)
    await peer.read(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await peer.read_all()  # it has gone
    await net.turn(3)
    assert protocol.calls == []


@pytest.mark.asyncio_fails("has cycles")
@pytest.mark.parametrize("what", ["wrong host", "silence", "eof"])
def test_a_failure_leaves_no_cycle(tls, net, what):
    """Exception, future, transport, protocol: all gone without the collector."""

    async def fail():
        protocol = Recorder()
        context = client_context()
        server = server_context(host="example.org")
        gone = [weakref.ref(protocol), weakref.ref(context)]
        listener = net.listener()
        task = net.loop.create_task(
            net.loop.create_connection(
                lambda: protocol,
                *listener.getsockname(),
                ssl=context,
                server_hostname="localhost",
                ssl_handshake_timeout=SHORT if what == "silence" else 10,
            )
        )
        peer = net.peer((await net.loop.sock_accept(listener))[0])
        if what == "wrong host":
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await TlsPeer(peer, server, server_side=True).handshake()
        elif what == "eof":
            peer.close()
        await asyncio.wait([task])
        error = task.exception()
        assert isinstance(error, OSError)
        return gone

    gc.collect()
    gc.disable()
    try:
        gone = net.run(fail())
        net.run(net.turn(3))
        assert [reference() for reference in gone] == [None] * 2
    finally:
        gc.enable()


# What a handshake settles


async def test_a_client_without_a_certificate_hears_of_it_late(tls, net):
    """In TLS 1.3 the client is connected before the server has looked."""
    server = server_context(TLS_1_3)
    server.verify_mode = ssl.CERT_REQUIRED
    protocol = Recorder()
    peer, task = await tls.dial("client", protocol)
    other = TlsPeer(peer, server, server_side=True)
    with pytest.raises(ssl.SSLError):
        await other.handshake()
    await task
    reason = await protocol.lost()
    assert isinstance(reason, ssl.SSLError)
    assert reason.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert protocol.calls == ["made", "lost"]


@pytest.mark.parametrize("mode", [ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
async def test_certificates_of_clients(tls, version, mode):
    server = server_context(version)
    server.verify_mode = mode
    authority("ours").configure_trust(server)
    client = strict(client_context(version))
    certificate("someone", "ours").configure_cert(client)
    protocol, peer = await tls.connect("server", context=server, peer_context=client)
    found = protocol.transport.get_extra_info("peercert")
    assert found["subjectAltName"] == (("DNS", "someone"),)


async def test_no_certificate_where_it_is_optional(tls, version):
    server = server_context(version)
    server.verify_mode = ssl.CERT_OPTIONAL
    protocol, _ = await tls.connect("server", context=server)
    assert protocol.transport.get_extra_info("peercert") is None


async def test_alpn(tls, side):
    context = server_context() if side == "server" else client_context()
    theirs = strict(tls.context(side))
    context.set_alpn_protocols(["h2", "http/1.1"])
    theirs.set_alpn_protocols(["http/1.1"])
    protocol, peer = await tls.connect(side, context=context, peer_context=theirs)
    found = protocol.transport.get_extra_info("ssl_object")
    assert found.selected_alpn_protocol() == "http/1.1" == peer.tls.selected_alpn_protocol()


async def test_sni_chooses_a_context(tls, net):
    """And what get_extra_info says of it is Python's ssl's."""
    names = []
    second = server_context(host="second.example")

    def choose(tls_object, name, context):
        names.append((type(tls_object), name, context))
        if name == "second.example":
            tls_object.context = second

    first = server_context()
    first.sni_callback = choose
    for host, answering in [("localhost", first), ("second.example", second)]:
        protocol = Recorder()
        async with tls.serving(lambda protocol=protocol: protocol, first) as address:
            client = await tls.call(Recorder(), address, server_hostname=host)
            subject = client.transport.get_extra_info("peercert")["subjectAltName"]
            assert subject == (("DNS", host),)
            await protocol.called("made")
            found = protocol.transport.get_extra_info("ssl_object")
            assert found.context is answering
            assert protocol.transport.get_extra_info("sslcontext") is first
    assert names == [(ssl.SSLObject, "localhost", first), (ssl.SSLObject, "second.example", first)]


@pytest.mark.asyncio_fails(KEEPS_IT)
async def test_sni_refuses(tls, net):
    def refuse(tls_object, name, context):
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context = server_context()
    context.sni_callback = refuse
    made = []
    async with tls.serving(lambda: made.append(Recorder()) or made[-1], context) as address:
        with pytest.raises(ssl.SSLError) as caught:
            await tls.call(Recorder(), address)
        assert caught.value.reason == "TLSV1_UNRECOGNIZED_NAME"
        await net.turn(5)
    assert made[0].calls == []
    tls.refused(ssl.SSLError)


@pytest.mark.asyncio_fails(KEEPS_IT)
async def test_sni_that_raises(tls, net, unraisable):
    def fail(tls_object, name, context):
        raise LookupError

    context = server_context()
    context.sni_callback = fail
    made = []
    async with tls.serving(lambda: made.append(Recorder()) or made[-1], context) as address:
        with pytest.raises(ssl.SSLError) as caught:
            await tls.call(Recorder(), address)
        assert caught.value.reason in (
            "SSLV3_ALERT_HANDSHAKE_FAILURE",
            "TLSV1_ALERT_INTERNAL_ERROR",
        )
        await net.turn(5)
    assert made[0].calls == []
    assert [seen.exc_type for seen in unraisable] == [LookupError]
    unraisable.clear()
    tls.refused(ssl.SSLError)


async def test_sessions_are_taken_up_again(tls, version):
    context = server_context(version)
    client = strict(client_context(version))
    session = None
    for resumed in (False, True, True):
        protocol = Recorder()
        peer, task = await tls.dial("server", protocol, context=context)
        other = TlsPeer(peer, client, server_side=False)
        if session is not None:
            other.tls.session = session
        await other.handshake()
        await task
        protocol.transport.write(b"x")
        assert await other.read(1) == b"x"
        assert other.tls.session_reused is resumed
        assert protocol.transport.get_extra_info("ssl_object").session_reused is resumed
        session = other.tls.session
        await other.close()
        await protocol.lost()


async def test_keys_are_logged(tls, side, version, tmp_path):
    context = server_context(version) if side == "server" else client_context(version)
    context.keylog_filename = str(tmp_path / "keys")
    protocol, peer = await tls.connect(side, context=context)
    context.keylog_filename = None
    lines = (tmp_path / "keys").read_text().splitlines()
    words = {line.split()[0] for line in lines if not line.startswith("#")}
    assert words >= (
        {"CLIENT_RANDOM"}
        if version == TLS_1_2
        else {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}
    )


async def test_what_is_known_of_a_connection(tls, side, version):
    context = server_context(version) if side == "server" else client_context(version)
    protocol, peer = await tls.connect(side, context=context)
    get = protocol.transport.get_extra_info
    tls_object = get("ssl_object")
    assert type(tls_object) is ssl.SSLObject
    assert tls_object.server_side is (side == "server")
    assert tls_object.server_hostname == (None if side == "server" else "localhost")
    assert tls_object.version() == peer.tls.version()
    assert get("cipher") == tls_object.cipher() == peer.tls.cipher()
    assert get("compression") is None
    assert get("sslcontext") is context is tls_object.context
    assert get("peercert") == tls_object.getpeercert()
    if side == "client":
        assert get("peercert")["subjectAltName"] == (("DNS", "localhost"),)
        assert tls_object.getpeercert(True) == ssl.PEM_cert_to_DER_cert(
            certificate("localhost", "ours").cert_chain_pems[0].bytes().decode()
        )
    else:
        assert get("peercert") is None
    assert tls_object.get_channel_binding() == peer.tls.get_channel_binding()
    assert get("peername") == peer.peer.sock.getsockname()
    assert get("sockname") == peer.peer.sock.getpeername()
    assert get("socket").fileno() >= 0
    known = {name: get(name) for name in SETTLED}
    assert get("nothing") is None
    assert get("nothing", 5) == 5
    protocol.transport.abort()
    await protocol.lost()
    assert {name: get(name) for name in SETTLED} == known


@pytest.mark.parametrize("peer", ["a server", "nobody knows", "a client", "no certificate"])
async def test_the_certificate_of_a_connection_that_failed(tls, version, peer):
    """OpenSSL does not give it any more then."""
    side = "client" if peer in ("a server", "nobody knows") else "server"
    context = client_context(version) if side == "client" else server_context(version)
    theirs = strict(tls.context(side))
    if peer == "nobody knows":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if peer == "a client":
        context.verify_mode = ssl.CERT_REQUIRED
        authority("ours").configure_trust(context)
        certificate("someone", "ours").configure_cert(theirs)
    protocol, other = await tls.connect(side, context=context, peer_context=theirs)
    before = protocol.transport.get_extra_info("peercert")
    await other.peer.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert isinstance(await protocol.lost(), ssl.SSLError)
    assert protocol.transport.get_extra_info("peercert") == before
    assert bool(before) == (peer in ("a server", "a client"))


async def test_nothing_is_known_before(tls, side, net):
    """connection_made() is the first to see a transport, and it sees all of this."""
    seen = {}

    class Curious(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            for name in (
                "cipher",
                "compression",
                "peercert",
                "sslcontext",
                "ssl_object",
                "peername",
            ):
                seen[name] = transport.get_extra_info(name, "unknown")
            seen["closing"] = transport.is_closing()
            seen["reading"] = transport.is_reading()

    protocol, peer = await tls.connect(side, Curious())
    assert "unknown" not in seen.values()
    assert not seen["closing"] and seen["reading"]


async def test_ssl_true_trusts_who_the_system_trusts(tls, net):
    async with tls.serving(Recorder) as address:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await net.loop.create_connection(
                Recorder, *address, ssl=True, server_hostname="localhost"
            )
        assert caught.value.verify_code in (18, 19, 20)
        await net.calm()
    tls.refused(OSError)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_ssl_true_makes_one_context(tls, net, monkeypatch, host):
    """That reads what authorities there are, while the loop waits."""
    made = []

    def make(*args, **kwargs):
        made.append(client_context())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", make)
    async with tls.serving(Recorder) as address:
        protocol = net.remember(Recorder())
        await net.loop.create_connection(
            lambda: protocol, host, address[1], ssl=True, server_hostname="localhost"
        )
    assert len(made) == 1


async def test_arguments_that_go_together(tls, net):
    create = net.loop.create_connection
    with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
        await create(Recorder, "127.0.0.1", 1, server_hostname="x")
    with pytest.raises(ValueError, match="ssl_handshake_timeout is only meaningful with ssl"):
        await create(Recorder, "127.0.0.1", 1, ssl_handshake_timeout=1)
    with pytest.raises(ValueError, match="ssl_shutdown_timeout is only meaningful with ssl"):
        await create(Recorder, "127.0.0.1", 1, ssl_shutdown_timeout=1)
    with pytest.raises(TypeError):
        await net.loop.create_server(Recorder, "127.0.0.1", 0, ssl=True)


async def test_the_host_is_the_name_by_default(tls, net):
    async with tls.serving(Recorder, server_context(host="127.0.0.1")) as address:
        protocol = await tls.call(Recorder(), address, server_hostname=None)
        name = protocol.transport.get_extra_info("ssl_object").server_hostname
        assert name == "127.0.0.1"
    async with tls.serving(Recorder) as address:
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            await tls.call(Recorder(), address, server_hostname=None)
        await net.calm()
    tls.refused(OSError)


async def test_a_server_that_accepts_late(tls, net):
    """Connecting takes its time, and then the handshake goes its way."""
    listener, fillers = net.full_listener()
    protocol = Recorder()
    task = net.loop.create_task(tls.call(protocol, listener.getsockname()))
    await net.turn(3)
    assert not task.done()
    peer = TlsPeer(await net.accept_late(listener, fillers), server_context(), server_side=True)
    await peer.handshake()
    await task
    protocol.transport.write(b"there")
    assert await peer.read(5) == b"there"


@pytest.mark.parametrize("where", ["loop", "class"])
async def test_a_hook_of_ones_own_is_passed(tls, net, where):
    """Both connecting and accepting pass what a program has put into asyncio's way."""
    passed = net.hook("_make_ssl_transport", where)
    async with tls.serving(Recorder) as address:
        await tls.call(Recorder(), address)
    assert len(passed) == 2


async def test_no_name_at_all(tls, net):
    """Where nobody checks it: no SNI, and whatever certificate."""
    names = []
    server = server_context()
    server.sni_callback = lambda tls_object, name, context: names.append(name)
    client = client_context()
    client.check_hostname = False
    async with tls.serving(Recorder, server) as address:
        protocol = await tls.call(Recorder(), address, client, server_hostname="")
        assert protocol.transport.get_extra_info("ssl_object").server_hostname is None
        assert names == [None]


@pytest.mark.parametrize("what", ["closes", "aborts", "raises"])
async def test_what_connection_made_may_do(tls, side, net, what):
    class Oops(Exception):
        pass

    class Hasty(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            if what == "raises":
                raise Oops
            transport.write(b"first")
            transport.close() if what == "closes" else transport.abort()

    protocol = Hasty()
    peer, task = await tls.dial(side, protocol)
    other = TlsPeer(peer, strict(tls.context(side)), side == "client")
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await other.handshake()
        said = await other.read_all()
        assert what != "closes" or said == b"first"
        await other.close()
    reason = await protocol.lost()
    assert type(reason) is (Oops if what == "raises" else type(None))
    with contextlib.suppress(Oops, ConnectionError):
        await task
    if what == "raises":
        assert {type(report["exception"]) for report in net.reports} == {Oops}
        net.reports.clear()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_leaves_the_loop_from_connection_made(tls, side, net, error):
    class Ending(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise error

    protocol = Ending()

    async def main():
        peer, task = await tls.dial(side, protocol)
        other = TlsPeer(peer, strict(tls.context(side)), side == "client")
        await other.handshake()
        await other.read_all()

    with pytest.raises(error):
        net.run(main())
    for task in asyncio.all_tasks(net.loop):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, error):
            net.loop.run_until_complete(task)
    net.reports.clear()
