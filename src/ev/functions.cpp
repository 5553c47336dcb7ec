// The functions of the module: versions, time, backends, the default loop.
#include "ev/functions.hpp"

#include <ev.h>

#include <algorithm>
#include <cmath>

#include "ev/loop.hpp"
#include "ev/signals.hpp"

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
    double end = ev_time() + interval;
    for (double left = interval; left > 0; left = end - ev_time()) {
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

static PyObject* feed_signal(PyObject*, PyObject* object) {
    int signum;
    if (!to_signal(object, signum)) return nullptr;
    ev_feed_signal(signum);
    Py_RETURN_NONE;
}

static PyObject* default_loop(PyObject* module, PyObject* const* values, Py_ssize_t count,
                              PyObject* names) {
    return Loop::make_default(*State::of(module), {values, count, names}).release();
}

static PyObject* after_fork(PyObject* module, PyObject*) {
    State& state = *State::of(module);
    if (state.main_thread) state.main_thread = PyThread_get_thread_ident();
    for (Loop* loop = state.loops; loop; loop = loop->next()) loop->after_fork();
    Py_RETURN_NONE;
}

PyMethodDef after_fork_function = {"after_fork", after_fork, METH_NOARGS, nullptr};

PyMethodDef functions[] = {
    {"version", version, METH_NOARGS, "version($module)\n--\n\n"},
    {"abi_version", abi_version, METH_NOARGS, "abi_version($module)\n--\n\n"},
    {"time", time, METH_NOARGS, "time($module)\n--\n\n"},
    {"sleep", sleep, METH_O, "sleep($module, interval, /)\n--\n\n"},
    {"supported_backends", backends<ev_supported_backends>, METH_NOARGS,
     "supported_backends($module)\n--\n\n"},
    {"recommended_backends", backends<ev_recommended_backends>, METH_NOARGS,
     "recommended_backends($module)\n--\n\n"},
    {"embeddable_backends", backends<ev_embeddable_backends>, METH_NOARGS,
     "embeddable_backends($module)\n--\n\n"},
    {"feed_signal", feed_signal, METH_O, "feed_signal($module, signum, /)\n--\n\n"},
    {"default_loop", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(default_loop)),
     METH_FASTCALL | METH_KEYWORDS, "default_loop($module, ...)\n--\n\n"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace pyev::ev
