// The process's signals, shared out among loops.
//
// libev gives one signal to one loop and asserts it; and when the last watcher of a signal stops,
// it leaves SIG_DFL behind. This table refuses first, and puts back what was there before: Python's
// handler, SIGINT's too, or the blocked mask. Process-wide, across interpreters, under one lock.
//
// A loop that a child process has of its parent's, and has not used, gives its signals up to the
// first loop of the child's own that wants them: whoever forked knows nothing of it.
#pragma once

#include <ev.h>

#include "ev/loop.hpp"

namespace pyev::ev {

// An int or a signal.Signals. ValueError for what is no signal's number.
[[nodiscard]] bool to_signal(PyObject* object, int& signum);

// ev_feed_signal, while its loop is not being closed. Not for a handler of the system's.
void feed_signal(int signum);

// How many signals were delivered to libev so far, modulo.
[[nodiscard]] unsigned fed_signals();

// Has a loop of the parent process give up a signal that `loop` is about to want. May run Python
// code, which may have closed `loop`: false then.
[[nodiscard]] bool take_over_signal(Loop* loop, int signum);
// ev_signal_start, or Error when another loop has that signal.
[[nodiscard]] bool start_signal(Loop* loop, ev_signal* watcher);
void stop_signal(Loop* loop, ev_signal* watcher);

// signal.signal(signum, handler), and the handler before. Where libev's is in place it stays there,
// and the new one is what comes back when the last watcher stops.
[[nodiscard]] py::Ref exchange_python_handler(int signum, PyObject* handler);

}  // namespace pyev::ev
