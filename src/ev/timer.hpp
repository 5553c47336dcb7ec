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
    void end();
    py::Ref describe();

    py::Ref reset();
    py::Ref get_repeat();
    bool set_repeat(PyObject* repeat);
    py::Ref get_remaining();

 private:
    friend class Postponed;
    void forget_postponed() {
        if (postponed_) own_loop()->postponed().remove(this);
    }

    size_t postponed_ = 0;  // its place among them, from 1
    double due_ = 0;        // then, on the monotonic clock
};

}  // namespace pyev::ev
