// Scheduler: wall-clock times that a Python function chooses.
//
// libev asks for the next time while it works on its heap, where no Python code may run. So it is
// answered with a far future, and the function is asked soon after: with the event, just before the
// callback, or, after a jump of the clock, before anything else happens.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Scheduler : public WatcherOf<Scheduler, ev_periodic, ev_periodic_start, ev_periodic_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Scheduler";
    static constexpr int kEvent = EV_PERIODIC;
    static constexpr const char* kLeadNames[] = {"scheduler"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 1;
    static constexpr Unheard kUnheard = Unheard::kCounted;

    Scheduler() { ev_periodic_set(&ev_, 0, 0, reschedule); }

    template <class F>
    void each_ref(F f) {
        Watcher::each_ref(f);
        f(scheduler_);
    }
    bool configure(PyObject* const* lead);
    bool begin();
    bool settle();
    void event(int revents);
    py::Ref describe();

    py::Ref reset();
    py::Ref get_scheduler();
    bool set_scheduler(PyObject* scheduler);
    py::Ref get_at();

 private:
    static double reschedule(ev_periodic* ev, double now) noexcept;
    [[nodiscard]] bool ask();
    [[nodiscard]] bool report();
    void report_end(Loop* loop, PyObject* source);
    void ask_again();
    void place();

    py::Ref scheduler_;
    double next_time_ = 0;    // what the function said last
    bool known_ = false;      // libev may have next_time_
    bool unsettled_ = false;  // libev wanted a time, and was put off
};

}  // namespace pyev::ev
