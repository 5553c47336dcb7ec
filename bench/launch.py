"""Programs run on the measuring core, with libev's defaults, for as long as they may take."""

import os
import pathlib
import resource
import signal
import subprocess
import time


class Failed(Exception):
    """A program that cannot run here; the message is the last line it said."""


def children_time() -> float:
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    return theirs.ru_utime + theirs.ru_stime


class Core:
    def __init__(self, cpu: int | None, folders: dict[str, str]) -> None:
        self.cpu = max(os.sched_getaffinity(0)) if cpu is None else cpu
        self.folders = folders  # other builds of pyev, by the name after @
        self.others = sorted(os.sched_getaffinity(0) - {self.cpu})
        self.elapsed = self.taken = 0.0  # seconds: while programs ran, and by something else

    def busy(self) -> float:
        """Seconds that the core has not been idle; a virtual one also when it was taken away."""
        for line in pathlib.Path("/proc/stat").read_text().splitlines():
            name, *spent = line.split()
            if name == f"cpu{self.cpu}":
                user, nice, system, _, _, *rest = map(int, spent[:8])
                return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def disturbed(self) -> float:
        """How much of the core others had while the programs ran."""
        return max(self.taken, 0.0) / self.elapsed if self.elapsed else 0.0

    def output(
        self, command: list[str], contender: str = "", limit: float | None = None, **extra: str
    ) -> str:
        """What the program prints. A contender called pyev@NAME is that other build of pyev."""
        environment = {key: value for key, value in os.environ.items() if key != "LIBEV_FLAGS"}
        environment |= extra
        if folder := self.folders.get(contender.partition("@")[2]):
            environment["PYTHONPATH"] = folder
        began, busy, ours = time.monotonic(), self.busy(), children_time()
        elsewhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.cpu})  # inherited: the program never runs anywhere else
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Failed(str(error)) from error
        finally:
            os.sched_setaffinity(0, elsewhere)
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise Failed(f"not done in {limit:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it started
                process.communicate()
            self.elapsed += time.monotonic() - began
            # A program that works on other cores too would seem to have had more than there is.
            self.taken += max(self.busy() - busy - (children_time() - ours), -0.02)
        if process.returncode:
            raise Failed((errors.strip().splitlines() or [f"exit {process.returncode}"])[-1])
        return output
