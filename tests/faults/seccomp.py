"""The kernel answers system calls with an error, in a thread or a process from then on."""

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable

# As x86-64 and arm64 number them.
CALLS = {
    "x86_64": {"accept4": 288, "epoll_ctl": 233, "io_uring_setup": 425, "io_uring_enter": 426},
    "aarch64": {"accept4": 242, "epoll_ctl": 21, "io_uring_setup": 425, "io_uring_enter": 426},
}.get(os.uname().machine, {})

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
LOAD, SKIP_UNLESS, ANSWER = 0x20, 0x15, 0x06
NUMBER, THIRD_ARGUMENT = 0, 32  # where a program finds these
ERRNO, ALLOW = 0x00050000, 0x7FFF0000


def forbid(*calls: str, code: int = errno.ENOSYS, third: int | None = None) -> bool:
    """For this thread, and those that it starts; False where that cannot be. Only with this third
    argument, if one is given."""
    if not all(call in CALLS for call in calls):
        return False
    answer = [(ANSWER, 0, 0, ERRNO | code)]
    if third is not None:
        answer = [(LOAD, 0, 0, THIRD_ARGUMENT), (SKIP_UNLESS, 0, 1, third), *answer]
        answer += [(LOAD, 0, 0, NUMBER)]
    program = [(LOAD, 0, 0, NUMBER)]
    for call in calls:
        program += [(SKIP_UNLESS, 0, len(answer), CALLS[call]), *answer]
    program += [(ANSWER, 0, 0, ALLOW)]
    lines = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(lines))
    prctl = ctypes.CDLL(None).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return prctl(PR_SET_SECCOMP, 2, ctypes.create_string_buffer(header), 0, 0) == 0


def without(function: Callable[[], object], *calls: str, code: int) -> bool:
    """Runs the function in a thread in which these calls fail; False if that cannot be done."""
    results: list[bool | BaseException] = []

    def run() -> None:
        try:
            if allowed := forbid(*calls, code=code):
                function()
            results.append(allowed)
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]
