// The functions of the module: versions, time, backends, the default loop.
#include "ev/functions.hpp"

#include <ev.h>

#include <algorithm>
#include <cmath>

#include "ev/loop.hpp"
#include "ev/signals.hpp"
#include "py/clock.hpp"

namespace pyev::ev {

using py::Ref;

static PyObject* version(PyObject*, PyObject*) { return PyUnicode_FromString(PYEV_VERSION); }

static PyObject* abi_version(PyObject*, PyObject*) {
    return Py_BuildValue("(ii)", ev_version_major(), ev_version_minor());
}

static PyObject* time(PyObject*, PyObject*) { return PyFloat_FromDouble(ev_time()); }

static PyObject* sleep(PyObject*, PyObject* object) {
    double interval;
    if (!py::to_double(object, interval)) return nullptr;
    if (!(interval >= 0)) {
        PyErr_Format(PyExc_ValueError, "sleep: interval must not be negative or NaN, but is %R",
                     object);
        return nullptr;
    }
    constexpr double day = 86400;
    if (interval > day &&
        PyErr_WarnEx(PyExc_RuntimeWarning, "sleep: libev sleeps a day at most reliably", 1) < 0)
        return nullptr;
    // A signal ends libev's sleep; Python's handlers run, and the rest follows.
    double end = py::monotonic() + interval;
    for (double left = interval; left > 0; left = end - py::monotonic()) {
        Py_BEGIN_ALLOW_THREADS;
        ev_sleep(std::min(left, day));
        Py_END_ALLOW_THREADS;
        if (PyErr_CheckSignals() < 0) return nullptr;
    }
    Py_RETURN_NONE;
}

template <unsigned (*F)() noexcept>
static PyObject* backends(PyObject*, PyObject*) {
    return PyLong_FromUnsignedLong(F());
}

static PyObject* feed(PyObject*, PyObject* object) {
    int signum;
    if (!to_signal(object, signum)) return nullptr;
    feed_signal(signum);
    Py_RETURN_NONE;
}

static PyObject* default_loop(PyObject* module, PyObject* const* values, Py_ssize_t count,
                              PyObject* names) {
    return Loop::make_default(*State::of(module), {values, count, names}).release();
}

// The loop that this thread is in a turn of, or empty.
static Ref in_turn(State& state) {
    py::Hold hold(state.mutex);
    for (Loop* loop = state.loops; loop; loop = loop->next())
        if (Driver* driver = loop->driver(); driver && driver->writes(driver))
            return py::try_ref(loop->object());
    return {};
}

// Else the child would send it too.
static PyObject* before_fork(PyObject* module, PyObject*) {
    Ref loop = in_turn(*State::of(module));
    Driver* driver = loop ? py::value_of<Loop>(loop.get())->driver() : nullptr;
    if (driver && !driver->send(driver)) return nullptr;
    Py_RETURN_NONE;
}

static PyObject* after_fork(PyObject* module, PyObject*) {
    State& state = *State::of(module);
    if (state.main_thread) state.main_thread = py::this_thread();
    for (Loop* loop = state.loops; loop; loop = loop->next()) loop->after_fork();
    Py_RETURN_NONE;
}

PyMethodDef before_fork_function = {"before_fork", before_fork, METH_NOARGS, nullptr};
PyMethodDef after_fork_function = {"after_fork", after_fork, METH_NOARGS, nullptr};

PyMethodDef functions[] = {
    {"version", version, METH_NOARGS, R"(version()
--

Return pyev's version as a string; the same as pyev.__version__.

libev manual: "GLOBAL FUNCTIONS" (for libev's own, see abi_version).)"},
    {"abi_version", abi_version, METH_NOARGS, R"(abi_version()
--

Return (major, minor), the version of the libev that is linked, as two integers.

It is libev's interface version: (4, 33) for libev 4.33.
libev manual: "GLOBAL FUNCTIONS".)"},
    {"time", time, METH_NOARGS, R"(time()
--

Return the wall-clock time in seconds since the epoch, freshly read.

Loop.now() is the time its callbacks count from, and needs no system call.
libev manual: "GLOBAL FUNCTIONS".)"},
    {"sleep", sleep, METH_O, R"(sleep(interval, /)
--

Block the calling thread for interval seconds, with the GIL released.

No loop runs meanwhile in this thread: it is for programs, not for callbacks.
Raises ValueError when interval is negative or NaN, TypeError when it is not a number; warns
(RuntimeWarning) above one day, the longest that libev promises.
libev manual: "GLOBAL FUNCTIONS".)"},
    {"supported_backends", backends<ev_supported_backends>, METH_NOARGS,
     R"(supported_backends()
--

Return the EVBACKEND_* bits that the linked libev was compiled with.

The running kernel may lack one of them. libev manual: "GLOBAL FUNCTIONS".)"},
    {"recommended_backends", backends<ev_recommended_backends>, METH_NOARGS,
     R"(recommended_backends()
--

Return the EVBACKEND_* bits that libev tries when a loop is made without naming any.

libev manual: "GLOBAL FUNCTIONS".)"},
    {"embeddable_backends", backends<ev_embeddable_backends>, METH_NOARGS,
     R"(embeddable_backends()
--

Return the EVBACKEND_* bits whose loops can be embedded in another by an Embed watcher.

Some may be missing here: combine with supported_backends().
libev manual: "GLOBAL FUNCTIONS" and "ev_embed - when one backend isn't enough...".)"},
    {"feed_signal", feed, METH_O, R"(feed_signal(signum, /)
--

Pretend that this process received signum: its Signal watchers fire in their loop's next turn.

Callable at any time, from any thread and from Python's signal handlers; does nothing when no
loop watches signum. The kernel is not involved: no handler runs, nothing is killed.
Raises ValueError for a number that is no signal, TypeError for what is not an integer.
libev manual: "GLOBAL FUNCTIONS".)"},
    {"default_loop", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(default_loop)),
     METH_FASTCALL | METH_KEYWORDS,
     R"(default_loop(flags=0, callback=None, data=None, io_interval=0.0, timeout_interval=0.0, debug=False)
--

Return the process's default loop, making it with these arguments if there is none.

Later calls return the same loop and do not look at their arguments; they warn (RuntimeWarning)
when given some. The loop lives as long as something refers to it or to one of its watchers;
after that, or after its close(), the next call makes a new one.
It differs from other loops in one thing: a Child may watch pid 0 or trace stops there. Making it
installs no SIGCHLD handler. Raises what Loop() raises; a failed call can be tried again.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS".)"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace pyev::ev
