// Idle: the loop has nothing else to do, at this priority or above.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Idle : public WatcherOf<Idle, ev_idle, ev_idle_start, ev_idle_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Idle";
    static constexpr int kEvent = EV_IDLE;
    static constexpr Unheard kUnheard = Unheard::kNotWatched;
    static constexpr bool kEachTurn = true;
};

}  // namespace pyev::ev
