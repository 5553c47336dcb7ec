// Cleanup: the loop is about to be closed.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Cleanup : public WatcherOf<Cleanup, ev_cleanup, ev_cleanup_start, ev_cleanup_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Cleanup";
    static constexpr int kEvent = EV_CLEANUP;
    static constexpr bool kAwaitable = false;  // no coroutine runs after it
    static constexpr bool kHolds = false;      // libev never counts it

    bool begin();
};

}  // namespace pyev::ev
