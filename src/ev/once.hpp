// Once: a descriptor or a timeout, whichever comes first, and then no more.
//
// libev's ev_once cannot be cancelled, so this is an ev_io and an ev_timer. The loop keeps it until
// it is done.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

// The ev_io, or the ev_timer when there is no descriptor; both begin as every watcher does.
struct OnceEvent {
    EV_WATCHER(OnceEvent)
    union {
        char io[sizeof(ev_io) - sizeof(ev_watcher)];
        char timer[sizeof(ev_timer) - sizeof(ev_watcher)];
    };
};

class Once : public WatcherOf<Once, OnceEvent, nullptr, nullptr> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Once";
    static constexpr int kEvent = EV_CUSTOM;
    static constexpr const char* kLeadNames[] = {"fd", "events", "timeout"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 3;

    Once();

    bool configure(PyObject* const* lead);
    bool begin();
    void end();
    void event(int revents);
    py::Ref describe();

    // Seconds until its timeout, of an active one; infinite where it has none.
    double remaining();

 private:
    static void dead(Watch* watch);
    static void on_timeout(struct ev_loop*, ev_timer* ev, int);

    ev_io* io() { return reinterpret_cast<ev_io*>(&ev_); }
    // The only watcher when there is no descriptor, else beside the ev_io.
    ev_timer* timer() { return fd_ < 0 ? reinterpret_cast<ev_timer*>(&ev_) : &timeout_; }
    void stop_timeout();

    Watch watch_;
    ev_timer timeout_;
    int fd_ = -1;
    int events_ = 0;
    double after_ = -1;   // negative: no timeout
    bool timed_ = false;  // timeout_ is under way, and not counted
};

}  // namespace pyev::ev
