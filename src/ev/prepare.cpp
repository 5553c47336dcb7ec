// Prepare: libev's ev_prepare.
#include "ev/prepare.hpp"

namespace pyev::ev {

const py::TypeInfo Prepare::kType = {
    kName, R"(Prepare(loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_PREPARE) in every turn, just before the loop waits for events.

Good for bringing another library's descriptors and timeouts into the loop, together with Check.
Raises TypeError for a wrong loop or callback.
libev manual: "ev_prepare and ev_check - customise your event loop!".)",
    nullptr, nullptr};

}  // namespace pyev::ev
