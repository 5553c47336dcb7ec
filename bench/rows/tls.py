"""TLS over TCP by the contexts of Python's ssl, both ends on the loop."""

import ssl

from rows import Stage, Work, row
from rows.sockets import CONNECTIONS, KIB, Client, Echo, bulk, connections, echo


def contexts(stage: Stage) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(stage.folder / "certificate.pem")
    return server, ssl.create_default_context(cafile=str(stage.folder / "authority.pem"))


@row("TLS echo 64 B, 10 connections", batch=CONNECTIONS, floor=("floors_tls", "echo", "64"))
async def tls_echo_64(stage: Stage) -> Work:
    return await echo(stage, Echo, Client, 64, tls=contexts(stage))


@row("TLS echo 16 KiB", batch=CONNECTIONS, floor=("floors_tls", "echo", "16384"))
async def tls_echo_16k(stage: Stage) -> Work:
    return await echo(stage, Echo, Client, 16 * KIB, tls=contexts(stage))


@row("TLS bulk, 64 KiB writes", unit="MiB/s", batch=1 / 16, floor=("floors_tls", "bulk", "65536"))
async def tls_bulk(stage: Stage) -> Work:
    return await bulk(stage, 64 * KIB, tls=contexts(stage))


@row("TLS handshake, abort", floor=("floors_tls", "handshake", "1"))
async def tls_handshake(stage: Stage) -> Work:
    return await connections(stage, tls=contexts(stage))
