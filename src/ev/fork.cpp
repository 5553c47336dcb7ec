// Fork: libev's ev_fork.
#include "ev/fork.hpp"

namespace pyev::ev {

// libev invokes these whenever it makes its kernel objects anew, and epoll's makes it do so without
// any fork when descriptors were closed behind its back.
void Fork::event(int revents) {
    if (owner()->rebuilding() && !owner()->forked()) return;
    deliver(revents);
}

const py::TypeInfo Fork::kType = {
    kName,
    R"(Fork(loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_FORK) in the child process, in the first turn there after a fork.

It comes before the kernel's state is made anew, so watchers that the child does not want can be
stopped in it. pyev notes os.fork() by itself. Raises TypeError for a wrong loop or callback.
libev manual: "ev_fork - the audacity to resume the event loop after a fork".)",
    nullptr, nullptr};

}  // namespace pyev::ev
