// Fork: the process was forked, and this is the child.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Fork : public WatcherOf<Fork, ev_fork, ev_fork_start, ev_fork_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Fork";
    static constexpr int kEvent = EV_FORK;

    void event(int revents);
};

}  // namespace pyev::ev
