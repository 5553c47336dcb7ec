"""Random streams with TLS: on our loop they do, step by step, what they do on asyncio's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from alike_streams_kit import (
    LIMITS,
    Conversation,
    End,
    conversation,
    little,
    much,
    read,
    reads_much,
    waiting,
)
from alike_tls_kit import agreement, context
from hypothesis import given
from hypothesis import strategies as st

from alike_kit import examples

agreed = agreement.map(lambda found: {**found, "trouble": None})


class TlsEnd(End):
    def over(self) -> bool:
        return self.closed or self.reader._eof or self.broken()

    def do(self, step: Any) -> Any:
        if step[0] in ("is_closing", "drain") and self.reader.at_eof():
            return None  # behind a bare end, asyncio's own closes a turn later
        return super().do(step)


class TlsConversation(Conversation):
    """With TLS from the start, or from when both ends are connected."""

    agreement: Any

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.ends = [TlsEnd(), TlsEnd()]

    async def main(self, *arguments: Any) -> None:
        *others, self.agreement, plan, conversation = arguments
        await super().main(*others, plan, conversation)

    def options(self, server: bool) -> dict[str, Any]:
        if self.kind == "upgraded":
            return {}
        name = {} if server else {"server_hostname": "localhost"}
        return {"ssl": context(self.agreement, server), **name}

    def spared(self, end: Any, other: Any, step: Any) -> bool:
        match step:
            case ("close",):  # after a second one, asyncio's own cannot abort() any more
                return bool(end.over())
            case ("writelines", ["text"]):  # asyncio's own breaks off then
                return True
            case ("write" | "writelines" | "write much" | "writelines much", *_):
                return bool(end.over() or other.over())
        return False

    async def before_close(self) -> None:
        await self.rest()  # what crosses with it is an error on asyncio's own

    async def secure(self, end: End, server: bool) -> None:
        if self.kind == "upgraded":
            name = {} if server else {"server_hostname": "localhost"}
            await end.writer.start_tls(context(self.agreement, server), **name)
        # Of what it cannot send, asyncio's own counts nothing.
        end.writer.transport.set_write_buffer_limits(1 << 24)


def plans(limit: Any, step: Any) -> Any:
    return st.fixed_dictionaries(
        {
            "limits": st.tuples(limit, limit),
            "served": st.tuples(st.lists(step, max_size=3), st.booleans()),
        }
    )


@pytest.mark.parametrize("streams", ["asyncio", "pyev"])
@pytest.mark.parametrize("kind", ["tls", "upgraded"])
@examples(25)
@given(
    agreement=agreed,
    plan=plans(LIMITS, st.one_of(read, read, waiting)),
    conversation=conversation(little),
)
def test_little(streams: str, kind: str, agreement: Any, plan: Any, conversation: Any) -> None:
    TlsConversation.alike(streams, kind, True, agreement, plan, conversation)


@pytest.mark.parametrize("streams", ["asyncio", "pyev"])
@pytest.mark.parametrize("kind", ["tls", "upgraded"])
@examples(20)
@given(
    agreement=agreed,
    plan=plans(st.sampled_from([100_000, 1 << 20]), st.one_of(reads_much, waiting)),
    conversation=conversation(much),
)
def test_much(streams: str, kind: str, agreement: Any, plan: Any, conversation: Any) -> None:
    if kind == "upgraded":
        # A reader goes on holding back the transport that was there before start_tls(), and then
        # nobody hears the answer to close().
        plan = {**plan, "limits": (1 << 24, 1 << 24)}
    TlsConversation.alike(streams, kind, False, agreement, plan, conversation)
