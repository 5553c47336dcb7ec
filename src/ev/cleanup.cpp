// Cleanup: libev's ev_cleanup, invoked by Loop::close().
#include "ev/cleanup.hpp"

namespace pyev::ev {

// The loop's list says in which order they were started.
bool Cleanup::begin() {
    owner()->unlink(this);
    owner()->link(this);
    ev_cleanup_start(owner()->ev(), &ev_);
    return true;
}

const py::TypeInfo Cleanup::kType = {
    kName, R"(Cleanup(loop, callback, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_CLEANUP) when its loop is closed by close() or the end of `with`.

The last started is called first, and the loop is closed whatever it raises. Never called when the
loop is collected or the interpreter exits. As in libev, an active one does not keep the loop
running. Raises TypeError for a wrong loop or callback.
libev manual: "ev_cleanup - even the best things end".)",
    nullptr, nullptr};

}  // namespace pyev::ev
