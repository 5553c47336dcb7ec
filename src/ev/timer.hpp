// Timer: a number of seconds from now, and again at intervals, by the monotonic clock.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Timer : public WatcherOf<Timer, ev_timer, ev_timer_start, ev_timer_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Timer";
    static constexpr int kEvent = EV_TIMER;
    static constexpr const char* kLeadNames[] = {"after", "repeat"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 2;
    static constexpr Unheard kUnheard = Unheard::kCounted;

    bool configure(PyObject* const* lead);
    bool begin();
    py::Ref describe();

    py::Ref reset();
    py::Ref get_repeat();
    bool set_repeat(PyObject* repeat);
    py::Ref get_remaining();
};

}  // namespace pyev::ev
