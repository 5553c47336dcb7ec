// Periodic: a wall-clock time, once or at intervals.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Periodic : public WatcherOf<Periodic, ev_periodic, ev_periodic_start, ev_periodic_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Periodic";
    static constexpr int kEvent = EV_PERIODIC;
    static constexpr const char* kLeadNames[] = {"offset", "interval"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 2;
    static constexpr Unheard kUnheard = Unheard::kCounted;

    bool configure(PyObject* const* lead);
    bool begin();
    py::Ref describe();

    py::Ref reset();
    py::Ref get_offset();
    bool set_offset(PyObject* offset);
    py::Ref get_interval();
    bool set_interval(PyObject* interval);
    py::Ref get_at();
};

}  // namespace pyev::ev
