// Check: the loop has polled.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Check : public WatcherOf<Check, ev_check, ev_check_start, ev_check_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Check";
    static constexpr int kEvent = EV_CHECK;
    static constexpr Unheard kUnheard = Unheard::kNotWatched;
    static constexpr bool kEachTurn = true;
};

}  // namespace pyev::ev
