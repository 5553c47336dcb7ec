// Check: libev's ev_check.
#include "ev/check.hpp"

namespace pyev::ev {

const py::TypeInfo Check::kType = {
    kName, R"(Check(loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_CHECK) in every turn, after the wait and before the turn's other events.

That holds for events of its own or a lower priority: give it EV_MAXPRI to be before all.
Raises TypeError for a wrong loop or callback.
libev manual: "ev_prepare and ev_check - customise your event loop!".)",
    nullptr, nullptr};

}  // namespace pyev::ev
