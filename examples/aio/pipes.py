#!/usr/bin/env python3
"""Subprocesses and their pipes: a pool of worker processes that are asked by lines.

    pipes.py                        three workers factorize numbers, and two of them die of it
    seq 20 | pipes.py --serve 3     three workers factorize what comes by standard input

Each worker reads questions from a pipe and writes answers to another. One that dies of a question,
or takes too long and is killed, is replaced; closing its standard input ends a worker.
"""

import argparse
import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pyev

PATIENCE = 5.0
WORKER = """
import sys

def factors(number):
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            yield divisor
            number //= divisor
        divisor += 1
    if number > 1:
        yield number

for line in sys.stdin:
    print(*factors(int(line)), flush=True)
"""


class Died(Exception):
    """A worker ended without an answer."""


class Pool:
    """Each question goes to a worker that has none, as soon as there is one."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.free: asyncio.Queue[Process] = asyncio.Queue()
        self.all: set[Process] = set()

    async def start(self) -> None:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        self.all.add(worker)
        self.free.put_nowait(worker)

    async def ask(self, question: str) -> str:
        worker = await self.free.get()
        assert worker.stdin and worker.stdout
        with suppress(ConnectionError):  # It is dead: the empty answer says so too.
            worker.stdin.write(f"{question}\n".encode())
            await worker.stdin.drain()
        answer = b""
        try:
            async with asyncio.timeout(self.patience):
                answer = await worker.stdout.readline()
        except TimeoutError:
            worker.kill()
        if not answer.endswith(b"\n"):
            why = await self.bury(worker)
            await self.start()
            raise Died(why)
        self.free.put_nowait(worker)
        return answer.decode().strip()

    async def bury(self, worker: Process) -> str:
        """Let it end, and wait for that; what it died of."""
        assert worker.stdin
        worker.stdin.close()
        _, errors = await worker.communicate()
        self.all.remove(worker)
        status = worker.returncode or 0
        if status < 0:
            return signal.Signals(-status).name
        return errors.decode().rstrip().rpartition("\n")[2] or f"exit status {status}"


@asynccontextmanager
async def workers(count: int, patience: float) -> AsyncIterator[Pool]:
    """Works meanwhile; a worker that does not end then is killed."""
    pool = Pool(patience)
    try:
        for _ in range(count):
            await pool.start()
        yield pool
    finally:
        for worker in list(pool.all):
            try:
                async with asyncio.timeout(pool.patience):
                    await pool.bury(worker)
            except TimeoutError:
                worker.kill()
                await worker.wait()


async def show(pool: Pool, question: str) -> None:
    try:
        print(f"{question}: {await pool.ask(question)}", flush=True)
    except Died as died:
        print(f"{question}: a worker died of it: {died}", flush=True)


async def serve(count: int, patience: float) -> None:
    """Standard input is a pipe, a terminal or a socket; a file has no need to be waited for."""
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(questions), sys.stdin
    )
    try:
        async with workers(count, patience) as pool, asyncio.TaskGroup() as group:
            slots = asyncio.Semaphore(2 * count)  # No more is read than can be worked at.

            async def work(question: str) -> None:
                await show(pool, question)
                slots.release()

            while line := await questions.readline():
                await slots.acquire()
                group.create_task(work(line.decode().strip()))
    finally:
        transport.close()


async def demonstrate(patience: float) -> None:
    async with workers(3, patience) as pool:
        numbers = [10**12 + 39, 2**40 - 1, *range(90, 99)]
        began = list(pool.all)
        answers = await asyncio.gather(*(pool.ask(str(number)) for number in numbers))
        for number, answer in list(zip(numbers, answers, strict=True))[:3]:
            print(f"{number}: {answer}")
        print(f"and {len(answers) - 3} more from {len(pool.all)} workers")

        await show(pool, "ninety")
        await show(pool, str(2**61 - 1))
        print(f"{len(pool.all)} workers are there again")
    print("all have ended:", all(worker.returncode is not None for worker in began))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", type=int, metavar="WORKERS", help="ask standard input")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, metavar="SECONDS", help="for an answer (5)"
    )
    options = parser.parse_args()
    count: int | None = options.serve
    patience: float = options.patience
    try:
        pyev.run(demonstrate(patience) if count is None else serve(count, patience))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
