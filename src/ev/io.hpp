// Io: a descriptor that can be read from or written to.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Io : public WatcherOf<Io, ev_io, ev_io_start, ev_io_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Io";
    static constexpr int kEvent = EV_IO;
    static constexpr const char* kLeadNames[] = {"fd", "events"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 2;
    static constexpr Unheard kUnheard = Unheard::kNotWatched;

    Io() : watch_{&ev_, this, dead, nullptr} {}

    bool configure(PyObject* const* lead);
    bool begin() { return begin_watch(&watch_); }
    void end() { owner()->descriptors().stop(&watch_); }
    void event(int revents);
    py::Ref describe();

    py::Ref get_fd();
    py::Ref get_events();

 private:
    static void dead(Watch* watch);

    Watch watch_;
};

}  // namespace pyev::ev
