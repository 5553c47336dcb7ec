"""Processes: nobody's status is taken, none of ours is lost, told twice or left a zombie."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import fault_kit as kit
from fault_harness import scenario

import pyev


def spawn(status: int = 0, wait: bool = False) -> tuple[int, int]:
    """Forks a process that exits with the status, at once or when the descriptor is closed."""
    r, w = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        os.close(w)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if wait:
            os.read(r, 1)
        os._exit(status)
    os.close(r)
    if not wait:
        os.close(w)
    else:
        kit.opened(w)
    return pid, w


def exited(pid: int) -> None:
    """Waits until the process is a zombie, and leaves it one."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def gone(pid: int) -> None:
    kit.raises(ChildProcessError, os.waitpid, pid, os.WNOHANG)


class Statuses:
    """A callback that notes each status by its pid."""

    def __init__(self, stop: bool = True) -> None:
        self.seen: dict[int, list[int]] = {}
        self.stop = stop

    def __call__(self, watcher: pyev.Child, revents: int) -> None:
        assert revents == pyev.EV_CHILD, revents
        self.seen.setdefault(watcher.rpid, []).append(watcher.rstatus)
        if self.stop:
            watcher.stop()

    def __len__(self) -> int:
        return len(self.seen)


def make(where: str) -> pyev.Loop:
    if where == "default":
        return pyev.default_loop(kit.BACKENDS[kit.backend])
    return kit.new_loop()


# 35. The children of others.


@scenario("C35", where=["default", "own"], watching=[False, True])
def test_subprocess_keeps_its_statuses(where: str, watching: bool) -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    with make(where) as loop:
        # As the kernel has it, not as Python believes: nothing may be installed behind its back.
        assert caught(signal.SIGCHLD) is False
        statuses = Statuses()
        for status in (0, 3, 7):
            popen = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({status})"])
            pid, w = spawn(5, wait=True)
            watcher = loop.child(pid, False, statuses)
            if watching:
                watcher.start()
            kit.turns(loop, 3)
            exited(popen.pid)
            kit.turns(loop, 3)
            kit.works(loop)
            assert popen.wait() == status
            os.close(w)
            if watching:
                kit.until(loop, lambda pid=pid: pid in statuses.seen)
                assert statuses.seen[pid] == [5 << 8]
            else:
                assert os.waitpid(pid, 0) == (pid, 5 << 8)
            gone(pid)
        assert subprocess.run([sys.executable, "-S", "-c", "raise SystemExit(9)"]).returncode == 9
        assert os.waitstatus_to_exitcode(os.system("exit 4")) == 4
    assert signal.getsignal(signal.SIGCHLD) is handler


def caught(signum: int) -> bool:
    """Whether the kernel has a handler of this process for the signal."""
    with open("/proc/self/status") as file:
        (mask,) = (line.split()[1] for line in file if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (signum - 1) & 1)


@scenario("C35", where=["default", "own"], method=["fork", "spawn"], alone=True)
def test_multiprocessing_keeps_its_statuses(where: str, method: str) -> None:
    import multiprocessing

    if method == "spawn":
        # The resource tracker would outlive the scenario.
        code = "import sys; sys.exit(6)"
        with make(where) as loop:
            kit.turns(loop, 2)
            with subprocess.Popen([sys.executable, "-S", "-c", code]) as popen:
                kit.turns(loop, 2)
            assert popen.returncode == 6
        return
    context = multiprocessing.get_context(method)
    with make(where) as loop:
        pid, w = spawn(1, wait=True)
        statuses = Statuses()
        watcher = loop.child(pid, False, statuses)
        watcher.start()
        kit.turns(loop, 2)
        process = context.Process(target=sys.exit, args=(6,))
        process.start()
        assert process.pid is not None
        exited(process.pid)
        kit.turns(loop, 3)
        process.join()
        assert process.exitcode == 6
        process.close()
        os.close(w)
        kit.until(loop, lambda: statuses)
        kit.works(loop)


@scenario("C35", flags=[0, 0x200000])
def test_what_a_watcher_of_any_child_installed_is_removed_with_it(flags: int) -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    loop = pyev.default_loop(kit.BACKENDS[kit.backend] | flags)
    for _ in range(2):
        statuses = Statuses()
        watcher = loop.child(0, False, statuses)
        watcher.start()
        pid, _ = spawn(2)
        kit.until(loop, lambda statuses=statuses: statuses)
        assert statuses.seen == {pid: [2 << 8]}
        gone(pid)
        watcher.stop()
        assert signal.getsignal(signal.SIGCHLD) is handler
        assert not caught(signal.SIGCHLD)
        assert subprocess.run([sys.executable, "-S", "-c", "raise SystemExit(9)"]).returncode == 9
        pid, _ = spawn(3)
        exited(pid)
        kit.turns(loop, 2)
        assert os.waitpid(pid, 0) == (pid, 3 << 8)
    kit.works(loop)
    loop.close()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


@scenario("C35")
def test_a_signal_watcher_of_sigchld_reaps_nothing() -> None:
    for where in ("own", "default"):
        with make(where) as loop:
            log = kit.Log()
            watcher = loop.signal(signal.SIGCHLD, log)
            watcher.start()
            pid, _ = spawn(4)
            kit.until(loop, lambda log=log: log)
            assert os.waitpid(pid, 0) == (pid, 4 << 8)
            watcher.stop()
            kit.works(loop)


@scenario("C35", "A6")
def test_sigchld_watched_here_and_children_of_any_kind_there() -> None:
    with pyev.default_loop(kit.BACKENDS[kit.backend]) as default, kit.new_loop() as other:
        anyone = default.child(0, False, kit.nothing)
        signals = other.signal(signal.SIGCHLD, kit.nothing)
        same = default.signal(signal.SIGCHLD, kit.nothing)
        for first, second in ((anyone, signals), (signals, anyone)):
            first.start()
            try:
                second.start()
            except pyev.Error:
                assert not second.active
            for loop in (default, other):
                kit.works(loop)
            first.stop()
            second.stop()
        for first, second in ((anyone, same), (same, anyone)):
            first.start()
            second.start()
            pid, _ = spawn()
            exited(pid)
            kit.turns(default, 3)
            gone(pid)
            first.stop()
            second.stop()
        kit.works(default)
        kit.works(other)


@scenario("C35", "C37", other=["default", "own"])
def test_the_reaper_of_any_child_hands_a_status_to_who_watches_it(other: str) -> None:
    default = pyev.default_loop(kit.BACKENDS[kit.backend])
    own = kit.new_loop()
    loop = default if other == "default" else own
    anyone_seen, one_seen = Statuses(stop=False), Statuses()
    anyone = default.child(0, False, anyone_seen)
    anyone.start()
    for order in ((default, own), (own, default)):
        pid, w = spawn(6, wait=True)
        one = loop.child(pid, False, one_seen)
        one.start()
        for each in order:
            kit.turns(each, 2)
        os.close(w)
        exited(pid)
        for _ in range(1000):
            for each in order:
                kit.turns(each)
            if pid in one_seen.seen and pid in anyone_seen.seen:
                break
        assert one_seen.seen.get(pid) == [6 << 8], one_seen.seen
        assert anyone_seen.seen.get(pid) == [6 << 8], anyone_seen.seen
        gone(pid)
    anyone.stop()
    kit.works(default)
    kit.works(own)
    default.close()
    own.close()


# 36. SIGCHLD ignored, replaced, blocked, or inherited so.


@scenario(
    "C36", how=["ignored", "function", "blocked", "ignored late"], late=[False, True], alone=True
)
def test_waiting_ends_whatever_sigchld_is(how: str, late: bool) -> None:
    if how == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    elif how == "function":
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
    elif how == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    with kit.new_loop() as loop:
        pid, w = spawn(5, wait=True)
        statuses = Statuses()
        watcher = loop.child(pid, False, statuses)
        if late:
            os.close(w)
            try:
                exited(pid)
            except ChildProcessError:
                assert how == "ignored"
                kit.raises(ProcessLookupError, watcher.start)
                kit.works(loop)
                return
        watcher.start()
        kit.turns(loop, 2)
        if how == "ignored late":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if not late:
            os.close(w)
        kit.until(loop, lambda: statuses, most=100)
        if how in ("ignored", "ignored late") and not (late and how == "ignored late"):
            assert statuses.seen == {pid: [0xFF00]}
        else:
            assert statuses.seen == {pid: [5 << 8]}
        assert not watcher.active
        kit.works(loop)


@scenario("C36")
def test_a_status_that_another_took_first() -> None:
    with kit.new_loop() as loop:
        pid, w = spawn(5, wait=True)
        statuses = Statuses()
        watcher = loop.child(pid, False, statuses)
        watcher.start()
        kit.turns(loop, 2)
        os.close(w)
        assert os.waitpid(pid, 0) == (pid, 5 << 8)
        kit.until(loop, lambda: statuses, most=100)
        assert statuses.seen == {pid: [0xFF00]}
        kit.raises(ProcessLookupError, watcher.start)
        kit.works(loop)


@scenario("C36")
def test_a_signal_handler_that_reaps_everything() -> None:
    reaped: dict[int, int] = {}

    def reap(signum: int, frame: object) -> None:
        try:
            while (result := os.waitpid(-1, os.WNOHANG))[0]:
                reaped[result[0]] = result[1]
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, reap)
    with kit.new_loop() as loop:
        for _ in range(10):
            pid, w = spawn(5, wait=True)
            statuses = Statuses()
            watcher = loop.child(pid, False, statuses)
            watcher.start()
            kit.turns(loop)
            os.close(w)
            kit.until(loop, lambda statuses=statuses: statuses, most=100)
            (status,) = statuses.seen[pid]
            assert status == (0xFF00 if pid in reaped else 5 << 8)
        kit.works(loop)


# 37. Each exactly once.


@scenario("C37", where=["default", "own"])
def test_a_child_that_was_gone_before_its_watcher_started(where: str) -> None:
    with make(where) as loop:
        statuses = Statuses(stop=False)
        pid, _ = spawn(7)
        exited(pid)
        kit.turns(loop, 3)
        watcher = loop.child(pid, False, statuses)
        watcher.start()
        kit.until(loop, lambda: statuses, most=100)
        kit.turns(loop, 3)
        assert statuses.seen == {pid: [7 << 8]}
        gone(pid)
        kit.calm(loop)
        watcher.stop()
        kit.raises(ProcessLookupError, watcher.start)
        kit.works(loop)


@scenario("C37")
def test_a_child_that_was_gone_before_any_child_was_watched() -> None:
    with pyev.default_loop(kit.BACKENDS[kit.backend]) as loop:
        for _ in range(3):
            statuses = Statuses(stop=False)
            pids = {spawn(number)[0]: number << 8 for number in range(3)}
            for pid in pids:
                exited(pid)
            kit.turns(loop, 3)
            watcher = loop.child(0, False, statuses)
            watcher.start()
            kit.until(loop, lambda statuses=statuses: len(statuses) == 3, most=100)
            assert statuses.seen == {pid: [status] for pid, status in pids.items()}
            watcher.stop()
        kit.works(loop)


@scenario("C37", where=["default", "own"], signum=[9, 15, 1])
def test_a_child_killed_by_a_signal(where: str, signum: int) -> None:
    with make(where) as loop:
        statuses = Statuses()
        pid, _w = spawn(wait=True)
        watcher = loop.child(pid, False, statuses)
        watcher.start()
        os.kill(pid, signum)
        kit.until(loop, lambda: statuses)
        (status,) = statuses.seen[pid]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signum
        gone(pid)
        kit.works(loop)


@scenario("C37")
def test_stopped_and_continued_with_and_without_trace() -> None:
    with pyev.default_loop(kit.BACKENDS[kit.backend]) as loop:
        pid, w = spawn(3, wait=True)
        traced, plain = Statuses(stop=False), Statuses(stop=False)
        for which in (pid, 0):
            traced, plain = Statuses(stop=False), Statuses(stop=False)
            watchers = [loop.child(which, True, traced), loop.child(which, False, plain)]
            for watcher in watchers:
                watcher.start()
            os.kill(pid, signal.SIGSTOP)
            kit.until(loop, lambda traced=traced: traced.seen.get(pid))
            (status,) = traced.seen[pid]
            assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP
            os.kill(pid, signal.SIGCONT)
            kit.until(loop, lambda traced=traced: len(traced.seen[pid]) > 1)
            assert os.WIFCONTINUED(traced.seen[pid][1])
            assert not plain, "only trace tells of stops"
            if not which:
                os.close(w)
                kit.until(loop, lambda t=traced, p=plain: p and len(t.seen[pid]) > 2)
                assert traced.seen[pid][2] == 3 << 8
                assert plain.seen == {pid: [3 << 8]}
            for watcher in watchers:
                watcher.stop()
        gone(pid)
        kit.works(loop)


@scenario("C37", where=["default", "own"], any_child=[False, True], alone=True)
def test_five_hundred_at_once(where: str, any_child: bool) -> None:
    if any_child and where == "own":
        kit.skip("any child needs the default loop")
    with make(where) as loop:
        statuses = Statuses(stop=not any_child)
        r, w = os.pipe2(os.O_CLOEXEC)
        pids = {}
        for number in range(500):
            pid = os.fork()
            if not pid:
                os.close(w)
                os.read(r, 1)
                os._exit(number % 251)
            pids[pid] = number % 251 << 8
        os.close(r)
        watchers = []
        if any_child:
            watchers = [loop.child(0, False, statuses)]
        else:
            watchers = [loop.child(pid, False, statuses) for pid in pids]
        for watcher in watchers:
            watcher.start()
        kit.turns(loop)
        os.close(w)
        kit.until(loop, lambda: len(statuses) == 500)
        kit.turns(loop, 3)
        assert {pid: [status] for pid, status in pids.items()} == statuses.seen
        kit.raises(ChildProcessError, os.waitpid, -1, os.WNOHANG)
        for watcher in watchers:
            watcher.stop()
        kit.works(loop)


@scenario("C37")
def test_two_watchers_of_one_child_both_learn() -> None:
    with kit.new_loop() as one, kit.new_loop() as two:
        pid, w = spawn(8, wait=True)
        seen = [Statuses(), Statuses(), Statuses()]
        watchers = [
            loop.child(pid, False, statuses)
            for loop, statuses in zip((one, one, two), seen, strict=True)
        ]
        for watcher in watchers:
            watcher.start()
        os.close(w)
        exited(pid)
        for _ in range(100):
            kit.turns(one)
            kit.turns(two)
        assert [s.seen for s in seen] == [{pid: [8 << 8]}] * 3, [s.seen for s in seen]
        gone(pid)
        kit.works(one)
        kit.works(two)


@scenario("C37", how=["stop", "drop", "close"])
def test_a_watcher_given_up_leaves_the_child_to_others(how: str) -> None:
    loop = kit.new_loop()
    for settled in (False, True):
        pid, w = spawn(9, wait=True)
        watcher = loop.child(pid, False, kit.never)
        watcher.start()
        if settled:
            kit.turns(loop)
        os.close(w)
        exited(pid)
        if how == "stop":
            watcher.stop()
        elif how == "drop":
            with kit.dropping():
                del watcher
        else:
            loop.close()
            loop = kit.new_loop()
        kit.turns(loop, 3)
        assert os.waitpid(pid, 0) == (pid, 9 << 8)
    kit.works(loop)
    loop.close()


@scenario("C37", "A7")
def test_set_again_from_within_its_callback() -> None:
    with kit.new_loop() as loop:
        queue = [spawn(n)[0] for n in range(5)]
        seen: list[int] = []

        def reuse(watcher: pyev.Child, revents: int) -> None:
            seen.append(watcher.rstatus >> 8)
            watcher.stop()
            if len(seen) < 5:
                watcher.set(queue[len(seen)], False)
                watcher.start()

        watcher = loop.child(queue[0], False, reuse)
        watcher.start()
        kit.until(loop, lambda: len(seen) == 5)
        assert seen == [0, 1, 2, 3, 4]
        kit.works(loop)


@scenario("C37", pid=["parent", "self", "init", "grandchild"])
def test_a_process_that_is_no_child_of_ours(pid: str) -> None:
    number = {"parent": os.getppid(), "self": os.getpid(), "init": 1}.get(pid, 0)
    r, w = os.pipe()
    if pid == "grandchild":
        child = os.fork()
        if not child:
            grandchild = os.fork()
            if not grandchild:
                os.close(w)
                os.read(r, 1)
                os._exit(0)
            os.write(w, f"{grandchild:10}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        number = int(os.read(r, 10))
    with kit.new_loop() as loop:
        statuses = Statuses()
        watcher = loop.child(number, False, statuses)
        with contextlib.suppress(OSError, pyev.Error):
            watcher.start()
        kit.turns(loop, 3)
        os.close(r)
        os.close(w)
        if pid == "grandchild" and watcher.active:
            # Not ours to wait for: its end is known, its status is not.
            kit.until(loop, lambda: statuses, most=100)
            assert statuses.seen == {number: [0xFF00]}
        watcher.stop()
        kit.works(loop)


@scenario("C37", "C39")
def test_no_descriptors_left_for_a_child() -> None:
    import resource

    with kit.new_loop() as loop:
        pid, w = spawn(1, wait=True)
        statuses = Statuses()
        watcher = loop.child(pid, False, statuses)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (kit.closed(), hard))
        for _ in range(3):
            try:
                watcher.start()
            except OSError:
                assert not watcher.active
            else:
                watcher.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        watcher.start()
        os.close(w)
        kit.until(loop, lambda: statuses)
        kit.works(loop)


@scenario("C37")
def test_children_waited_for_in_many_threads() -> None:
    pids = [spawn(n, wait=True) for n in range(4)]
    failures: list[BaseException] = []

    def wait(pid: int, status: int) -> None:
        try:
            with kit.new_loop() as loop:
                statuses = Statuses()
                watcher = loop.child(pid, False, statuses)
                watcher.start()
                kit.until(loop, lambda: statuses)
                assert statuses.seen == {pid: [status << 8]}
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=wait, args=(pid, number)) for number, (pid, _) in enumerate(pids)
    ]
    for thread in threads:
        thread.start()
    for _, w in pids:
        os.close(w)
    for thread in threads:
        thread.join()
    assert not failures, failures
