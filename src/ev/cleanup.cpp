// Cleanup: libev's ev_cleanup, invoked by Loop::close().
#include "ev/cleanup.hpp"

namespace pyev::ev {

// The loop's list says in which order they were started.
bool Cleanup::begin() {
    loop_->unlink(this);
    loop_->link(this);
    ev_cleanup_start(loop_->ev(), &ev_);
    return true;
}

const py::TypeInfo Cleanup::kType = {kName, "", nullptr, nullptr};

}  // namespace pyev::ev
