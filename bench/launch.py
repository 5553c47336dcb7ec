"""Programs run on the measuring core, with libev's defaults, for as long as they may take."""

import os
import signal
import subprocess


class Failed(Exception):
    """A program that cannot run here; the message is the last line it said."""


class Core:
    def __init__(self, cpu: int | None, folders: dict[str, str]) -> None:
        self.cpu = max(os.sched_getaffinity(0)) if cpu is None else cpu
        self.folders = folders  # other builds of pyev, by the name after @
        self.others = sorted(os.sched_getaffinity(0) - {self.cpu})

    def output(
        self, command: list[str], contender: str = "", limit: float | None = None, **extra: str
    ) -> str:
        """What the program prints. A contender called pyev@NAME is that other build of pyev."""
        environment = {key: value for key, value in os.environ.items() if key != "LIBEV_FLAGS"}
        environment |= extra
        if folder := self.folders.get(contender.partition("@")[2]):
            environment["PYTHONPATH"] = folder
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
        if process.returncode:
            raise Failed((errors.strip().splitlines() or [f"exit {process.returncode}"])[-1])
        return output
