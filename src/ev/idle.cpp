// Idle: libev's ev_idle.
#include "ev/idle.hpp"

namespace pyev::ev {

const py::TypeInfo Idle::kType = {
    kName,
    R"(Idle(loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_IDLE) in every turn in which nothing of its or a higher priority is due.

While one is active the loop does not wait: it uses all of a processor until it is stopped. Good for
work in small pieces between events. Raises TypeError for a wrong loop or callback.
libev manual: "ev_idle - when you've got nothing better to do...".)",
    nullptr, nullptr};

}  // namespace pyev::ev
