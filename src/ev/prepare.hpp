// Prepare: the loop is about to poll.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Prepare : public WatcherOf<Prepare, ev_prepare, ev_prepare_start, ev_prepare_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Prepare";
    static constexpr int kEvent = EV_PREPARE;
    static constexpr Unheard kUnheard = Unheard::kNotWatched;
    static constexpr bool kEachTurn = true;
};

}  // namespace pyev::ev
