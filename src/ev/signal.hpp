// Signal: the process got a signal.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Signal : public WatcherOf<Signal, ev_signal, ev_signal_start, ev_signal_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Signal";
    static constexpr int kEvent = EV_SIGNAL;
    static constexpr const char* kLeadNames[] = {"signum"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 1;

    bool configure(PyObject* const* lead);
    bool begin();
    void end();
    py::Ref describe();

    int signum() const { return ev_.signum; }
    py::Ref get_signum();
};

}  // namespace pyev::ev
