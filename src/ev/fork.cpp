// Fork: libev's ev_fork.
#include "ev/fork.hpp"

namespace pyev::ev {

// libev invokes these whenever it makes its kernel objects anew, and epoll's makes it do so without
// any fork when descriptors were closed behind its back.
void Fork::event(int revents) {
    if (loop_->rebuilding() && !loop_->forked()) return;
    deliver(revents);
}

const py::TypeInfo Fork::kType = {kName, "", nullptr, nullptr};

}  // namespace pyev::ev
