"""Takes each guard out of a copy of the sources, and sees its test fail.

python tests/faults/without_guards.py [WORD]: WORD picks some of the guards. Prints the rows of the
table in README.md, and ends with 1 when a test passes without its guard. Each guard is a build: all
of them take half an hour. (`test_guards.py` sees that each is still there.)
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Guard:
    test: str  # file::function[backend]
    file: str  # below src/ev
    function: str
    old: str
    new: str
    also: tuple[str, str] | None = None  # old and new, where two places guard


GUARDS = [
    Guard(
        "test_fds.py::test_a_closed_fd_is_refused_at_start[poll]",
        "descriptors.cpp",
        "Descriptors::start, fstat and verify",
        "if (look && fstat(io->fd, &status) != 0) return errno;",
        "if (look && fstat(io->fd, &status) != 0) status = {};",
        (
            "if (int refused = verify(io->fd, status, identity)) return refused;",
            "(void)verify(io->fd, status, identity);",
        ),
    ),
    Guard(
        "test_fds.py::test_closed_under_its_watcher[epoll]",
        "descriptors.hpp",
        "Descriptors::check, at all",
        "return (!all && changed_.empty() && !own_changed_) || check_watched(all);",
        "return entries_.size() < 100000 || check_watched(all);",
    ),
    Guard(
        "test_fds.py::test_closed_under_its_watcher[poll]",
        "descriptors.hpp",
        "Descriptors::check, of all on poll",
        "all = all || always_all_;",
        "",
    ),
    Guard(
        "test_fds.py::test_stopped_after_its_fd_was_closed_leaves_nothing_to_trip_over[epoll]",
        "descriptors.cpp",
        "Descriptors::stop, note_change",
        "return note_change(watch->io->fd);",
        "return;",
    ),
    Guard(
        "test_fds.py::test_closed_before_everything_is_registered_anew[epoll]",
        "turn.cpp",
        "Loop::before_poll, check of all after a fork",
        "descriptors_.check(anew)",
        "descriptors_.check(false)",
    ),
    Guard(
        "test_fds_nested.py::test_epoll_sets_nested_too_deep[epoll]",
        "descriptors.cpp",
        "Descriptors::try_epoll",
        "if (int refused = try_epoll(fd); refused && refused != EPERM) return refused;",
        "",
    ),
    Guard(
        "test_fds_reused.py::test_a_number_reused_is_registered_anew[epoll]",
        "descriptors.cpp",
        "Descriptors::start, ev_io_set",
        "        ev_io_set(io, io->fd, events);\n        entry.anew = true;\n",
        "",
    ),
    Guard(
        "test_fds_reused.py::test_what_has_the_number_of_a_socket_is_refused_at_start[epoll]",
        "descriptors.cpp",
        "is_stream",
        "lseek(fd, 0, SEEK_CUR) < 0 && errno == ESPIPE",
        "lseek(fd, 0, SEEK_CUR) < 1",
    ),
    Guard(
        "test_fds_reused.py::test_a_ready_file_closed_but_not_stopped_is_no_spin[epoll]",
        "io.cpp",
        "Io::event, a look now and then",
        "if ((++delivered_ & 63) == 0 && is_active() && !is_open(ev_.fd)) return fail(EBADF);",
        "",
    ),
    Guard(
        "test_fds.py::test_an_error_stops_its_watcher_and_leaves_start[epoll]",
        "watcher.cpp",
        "Watcher::deliver, EV_ERROR",
        "if (revents & EV_ERROR) return fail(0);",
        "",
    ),
    Guard(
        "test_repeats.py::test_a_repeat_that_is_none[epoll]",
        "timer.cpp",
        "to_repeat",
        "if (repeat >= 0) return true;",
        "if (repeat < 1e300 || repeat > 0 || repeat != repeat) return true;",
    ),
    Guard(
        "test_repeats.py::test_an_after_that_is_none[epoll]",
        "timer.cpp",
        "Timer::configure, NaN",
        "if (std::isnan(after))",
        "if (std::isnan(after) && after == 0)",
    ),
    Guard(
        "test_repeats.py::test_an_interval_that_is_none[epoll]",
        "periodic.cpp",
        "check",
        "static bool check(double offset, double interval) {\n",
        "static bool check(double offset, double interval) {\n    if (offset != 77) return true;\n",
    ),
    Guard(
        "test_schedules.py::test_a_schedule_that_is_none[epoll]",
        "scheduler.cpp",
        "Scheduler::ask, a time before now",
        "if (next < now)",
        "if (next == 77)",
    ),
    Guard(
        "test_schedules.py::"
        "test_a_scheduler_function_that_changes_the_heap_it_is_asked_from[epoll]",
        "scheduler.cpp",
        "Scheduler::reschedule, which does not ask while libev holds its heap",
        "if (self->known_) return self->next_time_;",
        "if (self->known_ || self->ask()) return self->next_time_;",
    ),
    Guard(
        "test_refusals.py::test_one_signal_one_loop[epoll]",
        "signals.cpp",
        "start_signal, another loop",
        "if (owner.watchers && owner.loop != loop->ev())",
        "if (owner.watchers && owner.loop == nullptr)",
    ),
    Guard(
        "test_refusals.py::test_a_signal_that_cannot_be_watched[epoll]",
        "signals.cpp",
        "to_signal",
        "bool known = signum > 0 && signum < NSIG && sigaddset(&set, signum) == 0;",
        "bool known = signum != 77 || sigaddset(&set, signum) == 0;",
    ),
    Guard(
        "test_refusals.py::test_embedding_what_may_not_be[poll]",
        "embed.cpp",
        "Embed::configure, no descriptor to watch",
        "if (other->descriptors().backend_fd() < 0)",
        "if (other->descriptors().backend_fd() == 77777)",
    ),
    Guard(
        "test_refusals.py::test_set_and_init_while_active_or_pending[epoll]",
        "watcher.cpp",
        "Watcher::inactive",
        "if (!owner() || owner()->closed() || !is_active()) return true;",
        "if (!owner() || !owner()->closed() || !is_active()) return true;",
    ),
    Guard(
        "test_refusals.py::test_set_and_init_while_active_or_pending[select]",
        "watcher.cpp",
        "Watcher::set, the stale event",
        "if (!kind().configure(this, slots) || !enter()) return {};\n    stop_open();",
        "if (!kind().configure(this, slots) || !enter()) return {};",
    ),
    Guard(
        "test_refusals.py::test_set_and_init_while_active_or_pending[poll]",
        "watcher.cpp",
        "Watcher::set_priority",
        "if (is_active() || is_pending())\n        return py::raise(owner()",
        "if (is_active() && !is_active())\n        return py::raise(owner()",
    ),
    Guard(
        "test_refusals.py::test_priorities_out_of_range_are_fed_without_harm[epoll]",
        "watcher.cpp",
        "clamped",
        "return std::clamp(priority, EV_MINPRI, EV_MAXPRI);",
        "return priority;",
    ),
    Guard(
        "test_refusals.py::test_a_child_on_a_loop_that_cannot_have_one[epoll]",
        "child.cpp",
        "Child::watch_sigchld, the default loop",
        "if (!owner()->is_default())",
        "if (!owner())",
    ),
    Guard(
        "test_backends.py::test_no_descriptors_left_for_a_loop[epoll-1]",
        "turn.cpp",
        "probe_descriptors",
        "if (!probe_descriptors(hint)) return false;",
        "if (!probe_descriptors(hint)) PyErr_Clear(), hint = 3;",
    ),
    Guard(
        "test_backends.py::test_no_descriptors_left_for_the_first_wait[epoll]",
        "interrupt.cpp",
        "Interrupt::open, short waits",
        "if (errno != EMFILE && errno != ENFILE) return",
        "if (errno >= 0) return",
    ),
    Guard(
        "../aio/test_threads.py::test_what_wakes_the_loop_goes_while_it_waits[closed]",
        "loop.hpp",
        "Loop::can_end_poll",
        "descriptors_.wakeup_alive() ||",
        "true ||",
    ),
    Guard(
        "test_backends.py::test_no_descriptors_left_after_a_fork[epoll-0]",
        "turn.cpp",
        "Loop::can_rebuild",
        "if (anew && !can_rebuild()) return fail();",
        "",
    ),
    Guard(
        "test_backends.py::test_each_descriptor_of_the_loop_closed_alone[poll-true-true]",
        "descriptors.cpp",
        "Descriptors::own_alive",
        "return own_alive() || py::raise_errno(EBADF);",
        "return own_alive() || true;",
    ),
    Guard(
        "test_backends.py::test_io_uring_failing_while_running[io_uring]",
        "turn.cpp",
        "Loop::invoke_pending, a failed system call",
        "(void)py::raise_errno(number);\n        return fail();",
        "errno = number;",
    ),
    Guard(
        "test_signals.py::test_while_surely_blocked[epoll]",
        "turn.cpp",
        "Loop::before_poll, the wake-up descriptor",
        "if (!interrupt_.enter(*state_, ev_, descriptors_)) return fail();",
        "",
    ),
    Guard(
        "test_signals.py::test_just_before_the_poll[epoll]",
        "turn.cpp",
        "Loop::before_poll, signals that came before it",
        "        // Signals from here on end the poll; the ones before it are seen here.\n"
        "        if (PyErr_CheckSignals() < 0) return fail();",
        "",
    ),
    Guard(
        "test_signals.py::test_a_foreign_wakeup_fd_is_put_back_and_gets_its_bytes[epoll-0]",
        "interrupt.cpp",
        "Interrupt::leave",
        "int ours = set(previous_);",
        "int ours = writer_;",
    ),
    Guard(
        "test_signals.py::test_a_foreign_wakeup_fd_is_put_back_and_gets_its_bytes[poll-0]",
        "interrupt.cpp",
        "Interrupt::drain, what others wait for",
        "if (previous_ >= 0 && write(previous_, bytes, size) < 0) continue;",
        "",
    ),
    Guard(
        "test_signals.py::test_a_wakeup_fd_set_while_running_stays[epoll-another]",
        "interrupt.cpp",
        "Interrupt::let_go, one set meanwhile",
        "        set(ours);  // set meanwhile, to stay\n",
        "",
    ),
    Guard(
        "test_signals.py::test_the_previous_handler_is_back[epoll-function-stop]",
        "signals.cpp",
        "stop_signal",
        "sigaction(signum, ours ? &owner.before : &now, nullptr);",
        "(void)ours;",
    ),
    Guard(
        "test_signals.py::test_ctrl_c_works_after_a_sigint_watcher[epoll]",
        "signals.cpp",
        "stop_signal, for SIGINT",
        "sigaction(signum, ours ? &owner.before : &now, nullptr);",
        "(void)ours;",
    ),
    Guard(
        "test_children.py::test_waiting_ends_whatever_sigchld_is[epoll-ignored-false]",
        "child.cpp",
        "Child::collect, a status taken by another",
        "        status = {pid_, kUnknownStatus};\n        lost_ = true;\n        return true;",
        "        return kUnknownStatus == 77;",
    ),
    Guard(
        "test_children.py::test_the_reaper_of_any_child_hands_a_status_to_who_watches_it[epoll]",
        "child.cpp",
        "Child::collect_for_all, the others",
        "if (child == this || !child->concerns(status)) continue;",
        "continue;",
    ),
    Guard(
        "test_children.py::test_a_child_that_was_gone_before_any_child_was_watched[epoll]",
        "child.cpp",
        "Child::watch_sigchld, what happened before",
        "ev_feed_event(owner()->ev(), &ev_, EV_SIGNAL);\n    return true;",
        "return true;",
    ),
    Guard(
        "test_children.py::test_no_descriptors_left_for_a_child[epoll]",
        "child.cpp",
        "Child::begin, an error",
        "if (errno != ENOSYS && errno != EPERM) return py::raise_errno(errno, object());",
        "",
    ),
    Guard(
        "test_fork.py::test_the_child_of_a_fork[epoll]",
        "functions.cpp",
        "after_fork",
        "loop->after_fork();",
        "(void)loop;",
    ),
    Guard(
        "test_fork.py::test_a_loop_that_another_thread_runs_at_the_fork[epoll]",
        "turn.cpp",
        "Loop::after_fork, orphans",
        "if (owner_ && owner_ != me) orphaned_ = true;",
        "(void)me;",
    ),
    Guard(
        "test_life.py::test_every_kind_dropped_alone_while_active_pending_or_both[epoll]",
        "watcher.cpp",
        "Watcher::finalize and detach",
        "    stop_now();\n    if (py::finalizing()) return;",
        "    if (py::finalizing()) return;",
        ("    stop_now();\n    owner()->unlink(this);", "    owner()->unlink(this);"),
    ),
    Guard(
        "test_own_callbacks.py::test_the_callback_lets_go_of_everything[epoll]",
        "watcher.cpp",
        "Watcher::deliver, its own references",
        "    Ref self = Ref::borrow(object());\n    Loop* loop = owner();\n"
        "    Ref callback = callback_;\n",
        "    struct { PyObject* it; PyObject* get() { return it; } } self{object()},\n"
        "        callback{callback_.get()};\n    Loop* loop = owner();\n",
    ),
    Guard(
        "test_close.py::test_a_second_thread_touches_everything_of_a_running_loop[epoll]",
        "loop.hpp",
        "Loop::is_open",
        "return is_alive() && (!owner_ || owner_ == py::this_thread());",
        "return is_alive();",
    ),
    Guard(
        "test_close.py::test_the_last_reference_goes_as_another_thread_begins_to_poll[poll]",
        "turn.cpp",
        "Loop::on_release, noted before",
        "        self->released_ = PyThreadState_Get();\n",
        "",
        ("    PyEval_SaveThread();\n", "    self->released_ = PyEval_SaveThread();\n"),
    ),
    Guard(
        "test_close.py::test_close_is_refused_while_running[epoll]",
        "loop.cpp",
        "Loop::close",
        "if (frame_ && !orphaned_)",
        "if (!frame_ && !ev_)",
    ),
    Guard(
        "test_close.py::test_the_default_loop_destroyed_twice_and_made_again[epoll]",
        "turn.cpp",
        "Loop::destroy, the default loop no more",
        "if (state_->default_loop == this) state_->default_loop = nullptr;",
        "",
    ),
    Guard(
        "test_exit.py::test_two_interpreters_and_one_signal_table[epoll]",
        "signals.cpp",
        "start_signal, another interpreter's loop",
        "if (owner.watchers && owner.loop != loop->ev())",
        "if (owner.watchers && owner.loop == nullptr)",
    ),
    Guard(
        "test_life.py::test_a_watcher_after_its_loop_is_closed[epoll]",
        "watcher.hpp",
        "Watcher::enter",
        "return (loop_ && owner()->is_open()) || refuse();",
        "return loop_ || refuse();",
    ),
    Guard(
        "test_nonsense.py::test_built_by_new_only[epoll]",
        "watcher.hpp",
        "Watcher::enter, half-built",
        "return (loop_ && owner()->is_open()) || refuse();",
        "return !loop_ || owner()->is_open() || refuse();",
    ),
    Guard(
        "test_time.py::test_a_delay_started_between_runs_counts_from_real_now[epoll]",
        "timer.cpp",
        "Timer::begin, allow_for_time",
        "    allow_for_time();\n    ev_timer_start",
        "    ev_timer_start",
    ),
    Guard(
        "test_time.py::test_the_wall_clock_jumps_in_a_sleep[epoll]",
        "functions.cpp",
        "sleep, by the monotonic clock",
        "double end = py::monotonic() + interval;",
        "double end = ev_time() + interval;",
        ("left = end - py::monotonic()", "left = end - ev_time()"),
    ),
    Guard(
        "../leaks/test_leaks.py::test_nothing_grows[leak_timer-]",
        "watcher.cpp",
        "Watcher::set_data, with a reference too many",
        "py::publish(fields_, data_, Ref::borrow(data));",
        "py::publish(fields_, data_, Ref::borrow(Py_NewRef(data)));",
    ),
]


WRONG = ("NOT FOUND", "DOES NOT BUILD", "NO SUCH TEST", "PASSED")  # how an outcome begins
ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "ev"
COPIED = ("CMakeLists.txt", "LICENSE", "pyproject.toml", "README.md", "python", "src", "tools")


def without(guard: Guard, text: str) -> str | None:
    """The source without the guard; None when it is not there exactly once."""
    for old, new in [(guard.old, guard.new), *([guard.also] if guard.also else [])]:
        if text.count(old) != 1:
            return None
        text = text.replace(old, new)
    return text


def run(tree: Path, guard: Guard) -> str:
    """What the guard's test says without it."""
    source = SOURCES / guard.file
    text = without(guard, source.read_text())
    if text is None:
        return "NOT FOUND"
    changed = tree / "src" / "ev" / guard.file
    changed.write_text(text)
    built = subprocess.run(
        [tree / "tools" / "dev-build", tree / "without", "-DPYEV_WERROR=OFF"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    shutil.copyfile(source, changed)
    if built.returncode:
        return "DOES NOT BUILD: " + (built.stderr or built.stdout)[-500:]
    tests = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests / guard.test)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(tree / "without"),
            "PYEV_FAULT_TIMEOUT": "10",
            "PYEV_TEST_IO_URING": "1",
            "PYEV_LEAK_COUNT": "20000",
        },
        capture_output=True,
        text=True,
    )
    if result.returncode not in (0, 1):
        return "NO SUCH TEST"
    return "PASSED" if result.returncode == 0 else symptom(result.stdout)


def symptom(output: str) -> str:
    """The line of the output that tells most."""
    for pattern in (
        r"Assertion `\(?\"?(.*?)[\"'] ?[,)]",
        r"^hung|hung for",
        r"Timeout \(",
        r"^Fatal Python error: (.*)",
        r"^(references to .*|.*: (?:bytes|objects|references).*)$",
        r"^(\w+Error.*|[\w.]*Error: .*|AssertionError)$",
        r"exit status (-?\d+)",
    ):
        found = re.search(pattern, output, re.MULTILINE)
        if found:
            text = found.group(1) if found.groups() else "hangs"
            return re.sub(r" at 0x[0-9a-f]+", "", text)[:110]
    return output.strip().splitlines()[-1]


def name(guard: Guard) -> str:
    """As the table has it."""
    test = guard.test.removeprefix("../leaks/").replace("::", " ")
    return f"`{test}` | `{guard.file}`: {guard.function}"


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    wrong = False
    with tempfile.TemporaryDirectory(prefix="pyev-guards-") as directory:
        tree = Path(directory)
        for part in COPIED:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            copy(ROOT / part, tree / part)
        for guard in GUARDS:
            if word not in f"{guard.test} {guard.file} {guard.function}":
                continue
            outcome = run(tree, guard)
            wrong = wrong or outcome.startswith(WRONG)
            print(f"| {name(guard)} | {outcome.replace('|', chr(92) + '|')} |", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
