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

bool Signal::begin() {
    if (!take_over_signal(owner(), ev_.signum)) return false;
    return is_active() || start_signal(owner(), &ev_);
}
void Signal::end() { stop_signal(owner(), &ev_); }

Ref Signal::describe() { return Ref::steal(PyUnicode_FromFormat("signum=%d", ev_.signum)); }

Ref Signal::get_signum() { return Ref::steal(PyLong_FromLong(ev_.signum)); }

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", R"(set($self, /, signum)
--

Watch another signal from the next start() on. Raises Error while active, and as Signal().)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Signal::get_signum>("signum", R"(The signal's number. Read-only: set() changes it.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Signal::kType = {
    kName, R"(Signal(signum, loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_SIGNAL) in a turn of the loop after the process received signum.

signum: a number or a signal.Signals member. Signals that come close together may be one call.
While active, Python's handler for it is not called; when the last watcher of the signal stops, the
handler before, Python's too, is put back.
Raises ValueError for a number that is no signal, and for SIGKILL and SIGSTOP. start() raises Error
when another loop watches the same signal.
libev manual: "ev_signal - signal me when a signal gets signalled!".)",
    methods, getset};

}  // namespace pyev::ev
