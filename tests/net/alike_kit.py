"""What the random comparisons of our loop with asyncio's own stand on."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = os.environ.get("PYEV_TEST_EXAMPLES")


def examples(number: int) -> settings:
    """Of one test: so many, always the same, unless the environment wants more."""
    return settings(
        max_examples=int(EXAMPLES or number),
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Run:
    """Something that is done on a loop, and a way to wait until nothing happens any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.reports: list[Any] = []
        loop.set_exception_handler(self.on_exception)
        self.knocker, self.door = socket.socketpair()

    def on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        self.reports.append(type(context.get("exception")))

    def state(self) -> Any:
        """What differs while something happens."""

    async def poll(self) -> None:
        """What the kernel has ready by now has been seen to."""
        future = self.loop.create_future()
        self.loop.add_reader(self.door, lambda: future.done() or future.set_result(None))
        self.knocker.send(b"k")
        await future
        self.loop.remove_reader(self.door)
        self.door.recv(1)

    async def rest(self) -> None:
        """Until nothing happens any more."""
        quiet = 0
        before: Any = None
        while quiet < 8:
            await self.poll()
            await asyncio.sleep(0)
            now = self.state()
            quiet = quiet + 1 if now == before else 0
            before = now

    async def main(self, *arguments: Any) -> None:
        raise NotImplementedError

    @classmethod
    def on(cls, factory: Any, *arguments: Any) -> Any:
        """What is done, on a new loop."""
        loop = factory()
        try:
            it = cls(loop)
            with it.knocker, it.door:
                loop.run_until_complete(asyncio.wait_for(it.main(*arguments), 30))
            return it
        finally:
            loop.close()
