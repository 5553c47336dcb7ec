"""Fork: in the child, before anything else."""

from __future__ import annotations

import pytest

import pyev


@pytest.mark.every_backend
def test_called_after_reset(loop, turn, calls):
    with loop.fork(calls) as watcher:
        turn()
        assert calls == []
        loop.reset()
        turn()
        assert calls == [(watcher, pyev.EV_FORK)]
        turn()
        assert len(calls) == 1


def test_before_prepare(loop, turn):
    order = []
    with (
        loop.prepare(lambda watcher, revents: order.append("prepare")),
        loop.fork(lambda watcher, revents: order.append("fork")),
    ):
        loop.reset()
        turn()
    assert order == ["fork", "prepare"]


@pytest.mark.every_backend
def test_called_in_the_child_only(script, backend):
    out = script(
        """
        import os, sys, pyev
        loop = pyev.Loop(int(sys.argv[1]))
        seen = []
        with loop.fork(lambda watcher, revents: seen.append((watcher.data, revents)), "data"):
            loop.start(pyev.EVRUN_NOWAIT)
            pid = os.fork()
            loop.start(pyev.EVRUN_NOWAIT)
            loop.start(pyev.EVRUN_NOWAIT)
            if pid == 0:
                os._exit(0 if seen == [("data", pyev.EV_FORK)] else 1)
            print(os.waitpid(pid, 0)[1], seen)
        """,
        str(backend),
    )
    assert out == "0 []\n"


@pytest.mark.every_backend
def test_called_after_reset_in_a_prepare(loop, calls):
    """Where libev has called the Fork watchers of this turn already: in the next."""

    def reset(watcher, revents):
        watcher.stop()
        loop.reset()

    end = loop.timer(1000.0, 0.0, calls)
    with loop.fork(calls) as fork, loop.prepare(reset), end:
        loop.start(pyev.EVRUN_ONCE)
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == [(fork, pyev.EV_FORK)]
        loop.start(pyev.EVRUN_NOWAIT)
        assert len(calls) == 1


@pytest.mark.every_backend
def test_called_in_the_child_of_a_fork_in_a_prepare(script, backend):
    out = script(
        """
        import os, sys, pyev
        loop = pyev.Loop(int(sys.argv[1]))
        seen, pids = [], []

        def prepare(watcher, revents):
            watcher.stop()
            pids.append(os.fork())

        with (
            loop.fork(lambda watcher, revents: seen.append(revents)),
            loop.prepare(prepare),
            loop.timer(0.1, 0.0, lambda watcher, revents: loop.stop()),
        ):
            loop.start()
            loop.start(pyev.EVRUN_NOWAIT)
            if pids[0] == 0:
                os._exit(0 if seen == [pyev.EV_FORK] else 1)
            print(os.waitpid(pids[0], 0)[1], seen)
        """,
        str(backend),
    )
    assert out == "0 []\n"


def test_a_loop_of_the_childs_own_gets_the_signals(script):
    """Until the child uses the parent's: then a signal has one loop, as ever."""
    out = script("""
        import os, signal, pyev

        def watch(loop, word):
            watcher = loop.signal(signal.SIGUSR1, lambda w, revents: seen.append(word))
            watcher.start()
            return watcher

        seen = []
        loop = pyev.Loop()
        watcher = watch(loop, "parent's")
        other = watch(loop, "parent's, too")
        for uses in (False, True):
            pid = os.fork()
            if pid == 0:
                if uses:
                    loop.start(pyev.EVRUN_NOWAIT)
                mine = pyev.Loop()
                try:
                    own = watch(mine, "child's")
                except pyev.Error as error:
                    os._exit(3 if uses and watcher.active else 1)
                signal.raise_signal(signal.SIGUSR1)
                mine.start(pyev.EVRUN_NOWAIT)
                loop.start(pyev.EVRUN_NOWAIT)
                os._exit(2 if seen == ["child's"] and not watcher.active else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        signal.raise_signal(signal.SIGUSR1)
        loop.start(pyev.EVRUN_NOWAIT)
        print(sorted(seen))
        watcher.stop()
        other.stop()
        """)
    assert out == '2\n3\n["parent\'s", "parent\'s, too"]\n'


def test_a_fork_of_a_fork(script):
    out = script("""
        import os, pyev
        loop = pyev.Loop()
        seen = []
        with loop.fork(lambda watcher, revents: seen.append(revents)):
            for generation in range(3):
                pid = os.fork()
                if pid:
                    status = os.waitpid(pid, 0)[1]
                    if generation:
                        os._exit(os.waitstatus_to_exitcode(status))
                    print(status)
                    break
                loop.start(pyev.EVRUN_NOWAIT)
                if len(seen) != generation + 1:
                    os._exit(1)
            else:
                os._exit(0)
    """)
    assert out == "0\n"


def test_fork_in_another_thread(script):
    out = script("""
        import os, threading, pyev
        loop = pyev.Loop()
        result = []
        seen = []
        def forking():
            pid = os.fork()
            if pid == 0:
                loop.start(pyev.EVRUN_NOWAIT)
                os._exit(0 if seen == [pyev.EV_FORK] else 1)
            result.append(os.waitpid(pid, 0)[1])
        with loop.fork(lambda watcher, revents: seen.append(revents)):
            thread = threading.Thread(target=forking)
            import warnings
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: threads and fork
            thread.start()
            thread.join()
        print(result, seen)
    """)
    assert out == "[0] []\n"


def test_the_parent_is_untouched(script):
    """Signals, timers and children of the parent, while the child closes and uses its copy."""
    out = script("""
        import os, signal, pyev
        loop = pyev.Loop()
        seen = []
        def callback(watcher, revents):
            seen.append(watcher.data)
            if len(seen) == 2:
                loop.stop()
        usr1 = loop.signal(signal.SIGUSR1, callback, "signal")
        with usr1, loop.timer(0.01, 0.0, callback, "timer"):
            loop.start(pyev.EVRUN_NOWAIT)
            pid = os.fork()
            if pid == 0:
                loop.start(pyev.EVRUN_NOWAIT)
                loop.close()
                with pyev.Loop() as new:
                    ran = []
                    with new.timer(0.0, 0.0, lambda watcher, revents: ran.append(1)):
                        new.start()
                os._exit(0 if ran else 1)
            status = os.waitpid(pid, 0)[1]
            os.kill(os.getpid(), signal.SIGUSR1)
            loop.start()
        print(status, sorted(seen))
    """)
    assert out == "0 ['signal', 'timer']\n"


def test_the_child_may_only_exit(script):
    out = script("""
        import os, sys, pyev
        loop = pyev.default_loop()
        fork = loop.fork(lambda watcher, revents: print("called"))
        with fork, loop.timer(0.0, 0.0, print) as timer:
            pid = os.fork()
            if pid == 0:
                timer.stop()
                sys.exit(0)
            status = os.waitpid(pid, 0)[1]
            timer.stop()
            loop.start(pyev.EVRUN_NOWAIT)
        print(status)
    """)
    assert out == "0\n"


@pytest.mark.parametrize("priority", [-99, 0, 99])
def test_started_stopped_and_freed_in_its_callback(loop, turn, priority):
    pool = []
    seen = []

    def callback(watcher, revents):
        seen.append(revents)
        watcher.stop()
        pool.clear()
        pool.append(loop.fork(callback, priority=priority))
        pool[0].start()

    pool.append(loop.fork(callback, priority=priority))
    pool[0].start()
    for n in range(1, 5):
        loop.reset()
        turn()
        assert seen == [pyev.EV_FORK] * n
    pool[0].stop()
    loop.verify()
