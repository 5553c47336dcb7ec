// Async: woken up from another thread or a signal handler.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Async : public WatcherOf<Async, ev_async, ev_async_start, ev_async_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Async";
    static constexpr int kEvent = EV_ASYNC;

    void end();

    py::Ref send();
    py::Ref get_sent();
};

}  // namespace pyev::ev
