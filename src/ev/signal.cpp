// Signal: libev's ev_signal.
#include "ev/signal.hpp"

#include <signal.h>

#include "ev/signals.hpp"

namespace pyev::ev {

using py::Ref;

bool Signal::configure(PyObject* const* lead) {
    int signum;
    if (!to_signal(lead[0], signum) || !inactive()) return false;
    if (signum == SIGKILL || signum == SIGSTOP)
        return py::raise(PyExc_ValueError, "signal %d cannot be caught", signum);
    ev_signal_set(&ev_, signum);
    return true;
}

bool Signal::begin() { return start_signal(loop_, &ev_); }
void Signal::end() { stop_signal(loop_, &ev_); }

Ref Signal::describe() { return Ref::steal(PyUnicode_FromFormat("signum=%d", ev_.signum)); }

Ref Signal::get_signum() { return Ref::steal(PyLong_FromLong(ev_.signum)); }

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", "set($self, signum)\n--\n\n"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Signal::get_signum>("signum", ""),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Signal::kType = {kName, "", methods, getset};

}  // namespace pyev::ev
