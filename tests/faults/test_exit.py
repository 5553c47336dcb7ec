"""The end of the interpreter, and of subinterpreters, with everything alive."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import fault_kit as kit
import pytest
from fault_harness import run_script, scenario

import pyev

# 45. The end of the interpreter.

AT_EXIT = """
import atexit, os, signal, sys, threading, warnings
sys.path.insert(0, os.getcwd())
import fault_kit as kit, pyev
warnings.simplefilter("ignore", ResourceWarning)

def busy(loop):
    watchers = [
        loop.io(kit.pair()[0], 1, kit.nothing), loop.timer(9.0, 9.0, kit.nothing),
        loop.periodic(0.0, 9.0, kit.nothing),
        loop.scheduler(lambda w, now: now + 9, kit.nothing),
        loop.signal(10, kit.nothing), loop.stat('/', 9.0, kit.nothing), loop.idle(kit.nothing),
        loop.prepare(kit.nothing), loop.check(kit.nothing), loop.fork(kit.nothing),
        loop.async_(kit.nothing), loop.cleanup(kit.nothing),
        loop.once(None, 0, 9.0, kit.nothing),
    ]
    for watcher in watchers:
        watcher.start()
    return watchers

class Late:
    def __call__(self, *args):
        pass

    def __del__(self):
        # With whatever is still there then.
        try:
            self.watcher.stop(); self.watcher.start(); self.watcher.loop.start(1)
        except Exception:
            pass

loop = {loop}
{body}
print("ok", flush=True)
"""

BODIES = {
    "globals": "keep = busy(loop); kit.turns(loop, 2)",
    "cycle": "loop.data = busy(loop); loop.data.append(loop); kit.turns(loop, 2); del loop",
    "builtins": "import builtins; builtins.keep = busy(loop); kit.turns(loop, 2)",
    "sys.modules": "keep = sys.modules['kept'] = busy(loop)",
    "destructor": "late = Late(); late.watcher = loop.timer(0.0, 1e-9, late); late.watcher.start()",
    "destructor of io": "r, w = os.pipe(); late = Late(); "
    "late.watcher = loop.io(w, 2, late); late.watcher.start(); loop.start(1)",
    "atexit": "atexit.register(loop.start, 1); keep = busy(loop)",
    "atexit close": "atexit.register(loop.close); keep = busy(loop)",
    "cleanup": "c = loop.cleanup(lambda w, r: os.write(2, b'called')); c.start()",
    "signal": "s = loop.signal(signal.SIGINT, print); s.start()",
    "pending": "keep = busy(loop)\nfor w in keep: w.feed(pyev.EV_CUSTOM)",
    "raises in callback": "t = loop.timer(0.0, 0.0, lambda w, r: sys.exit(0)); t.start(); "
    "print('ok', flush=True); loop.start()",
    "local": "threading.local().x = loop; t = threading.local(); t.y = busy(loop)",
    "subclass": "T = type('T', (pyev.Timer,), {'__del__': lambda s: None}); "
    "t = T(0.0, 1.0, loop, print); t.data = t; t.start()",
}


@pytest.mark.scenario("C45")
@pytest.mark.parametrize("backend", kit.available())
@pytest.mark.parametrize("kept", list(BODIES))
@pytest.mark.parametrize("loop", ["kit.new_loop()", "pyev.default_loop()"], ids=["own", "default"])
def test_the_interpreter_ends_with_watchers_alive(backend: str, kept: str, loop: str) -> None:
    source = AT_EXIT.format(body=BODIES[kept], loop=loop)
    run_script([], backend=backend, source=source)


@scenario("C45", what=["blocked", "busy", "in a callback", "with an interval"], alone=True)
def test_a_daemon_thread_is_inside_start_at_exit(what: str) -> None:
    loop = kit.new_loop(**({"io_interval": 1000.0} if what == "with an interval" else {}))
    running = threading.Event()
    prepare = loop.prepare(lambda w, revents: running.set())
    prepare.start()
    keep: list[pyev.Watcher] = [loop.async_(kit.nothing), loop.timer(1e6, 0.0, kit.nothing)]
    if what == "busy":
        keep += [loop.idle(kit.nothing), loop.timer(0.0, 1e-9, kit.nothing)]
    elif what == "in a callback":
        lock = threading.Lock()
        lock.acquire()
        keep += [loop.timer(0.0, 0.0, lambda w, revents: lock.acquire())]
    for watcher in keep:
        watcher.start()
    thread = threading.Thread(target=loop.start, daemon=True)
    thread.start()
    running.wait()
    # As the harness ends: with all of it alive.
    print("ok", flush=True)
    import builtins

    builtins.kept = (loop, keep, prepare)  # type: ignore[attr-defined]
    import faulthandler

    faulthandler.cancel_dump_traceback_later()
    sys.exit(0)


@scenario("C45")
def test_the_interpreter_ends_by_an_exception_out_of_start() -> None:
    code = """
        import fault_kit as kit, pyev
        loop = kit.new_loop()
        def fail(w, revents): raise {error}
        t = loop.timer(0.0, 0.0, fail); t.start()
        s = loop.signal(2, kit.nothing); s.start()
        loop.start()
    """
    for error, expected in (("KeyboardInterrupt", -2), ("SystemExit(5)", 5)):
        source = textwrap.dedent(code).format(error=error)
        result = subprocess.run(
            [sys.executable, "-W", "error", "-X", "faulthandler", "-c", source],
            stderr=subprocess.PIPE,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        )
        assert result.returncode == expected, result
        assert b"Fatal" not in result.stderr


# 46. Subinterpreters.

SUB = """
import pyev
loop = pyev.Loop()
t = loop.timer(0.0, 0.0, lambda w, r: None)
t.start()
loop.start()
kept = loop.timer(100.0, 0.0, print); kept.start()
s = loop.async_(print); s.start()
"""


def subinterpreters() -> object:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return __import__(name)
        except ImportError:
            pass
    kit.skip("no subinterpreters here")


def run_in(module: object, interpreter: object, source: str) -> str | None:
    """None if it ran there, else what was raised."""
    run = getattr(module, "exec", None) or module.run_string  # type: ignore[attr-defined]
    try:
        result = run(interpreter, source)
    except Exception as error:
        return repr(error)
    return None if result is None else str(result)


@scenario("C46", order=["here first", "there first", "only there"], alone=True)
def test_imported_in_a_subinterpreter(order: str) -> None:
    module = subinterpreters()
    here = kit.new_loop() if order == "here first" else None
    for _ in range(3):
        interpreter = module.create()  # type: ignore[attr-defined]
        raised = run_in(module, interpreter, SUB)
        assert raised is None or "Import" in raised or "subinterpreter" in raised, raised
        run_in(module, interpreter, "loop.close()")
        module.destroy(interpreter)  # type: ignore[attr-defined]
    if order == "there first":
        here = kit.new_loop()
    if here:
        kit.works(here)
        here.close()


@scenario("C46")
def test_a_subinterpreter_destroyed_with_its_loop_alive() -> None:
    module = subinterpreters()
    with kit.new_loop() as loop:
        kit.works(loop)
        before = kit.open_fds()
        for _ in range(3):
            interpreter = module.create()  # type: ignore[attr-defined]
            quiet = "import warnings; warnings.simplefilter('ignore')\n"
            raised = run_in(module, interpreter, quiet + SUB)
            assert raised is None or "Import" in raised or "subinterpreter" in raised, raised
            kit.works(loop)
            module.destroy(interpreter)  # type: ignore[attr-defined]
        kit.works(loop)
        assert kit.open_fds() == before


@scenario("C46", "C35", "A6")
def test_two_interpreters_and_one_signal_table() -> None:
    module = subinterpreters()
    with kit.new_loop() as loop:
        log = kit.Log()
        mine = loop.signal(signal.SIGUSR1, log)
        mine.start()
        interpreter = module.create()  # type: ignore[attr-defined]
        source = """
import pyev
loop = pyev.Loop()
w = loop.signal(10, print)
try:
    w.start()
except pyev.Error:
    pass
else:
    raise SystemError("started")
d = pyev.default_loop()
try:
    c = d.child(0, False, print)
    c.start()
    c.stop()
except (pyev.Error, ValueError):
    pass
d.close()
loop.close()
"""
        raised = run_in(module, interpreter, source)
        assert raised is None or "Import" in raised or "subinterpreter" in raised, raised
        signal.raise_signal(signal.SIGUSR1)
        kit.until(loop, lambda: log)
        module.destroy(interpreter)  # type: ignore[attr-defined]
        mine.stop()
        kit.works(loop)


@scenario("C46", "C41")
def test_children_forked_with_an_interpreter_alive() -> None:
    module = subinterpreters()
    with kit.new_loop() as loop:
        interpreter = module.create()  # type: ignore[attr-defined]
        raised = run_in(module, interpreter, SUB)
        assert raised is None or "Import" in raised or "subinterpreter" in raised, raised
        assert subprocess.run([sys.executable, "-S", "-c", "raise SystemExit(3)"]).returncode == 3
        kit.works(loop)
        run_in(module, interpreter, "loop.close()")
        module.destroy(interpreter)  # type: ignore[attr-defined]
