// Child: a process of ours has ended (or was stopped, or continued).
//
// A single process is watched by its pidfd: on any loop, without SIGCHLD, and nobody else's child
// is reaped. What a pidfd cannot tell (any child, `trace`, a kernel without) takes SIGCHLD, on the
// default loop. A status can be collected only once, so whoever collects it hands it to every
// active watcher it concerns, on all loops.
#pragma once

#include "ev/watcher.hpp"
#include "py/array.hpp"

namespace pyev::ev {

// The one or the other, by what can be watched; both begin as every watcher does.
struct ChildEvent {
    EV_WATCHER(ChildEvent)
    union {
        char pidfd[sizeof(ev_io) - sizeof(ev_watcher)];
        char sigchld[sizeof(ev_signal) - sizeof(ev_watcher)];
    };
};

class Child : public WatcherOf<Child, ChildEvent, nullptr, nullptr> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Child";
    static constexpr int kEvent = EV_CHILD;
    static constexpr const char* kLeadNames[] = {"pid", "trace"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 2;

    Child() : watch_{io(), this, dead, nullptr} {}

    bool configure(PyObject* const* lead);
    bool begin();
    void end();
    void event(int revents);
    py::Ref describe();

    py::Ref get_pid();
    py::Ref get_trace();
    py::Ref get_rpid();
    bool set_rpid(PyObject* rpid);
    py::Ref get_rstatus();
    bool set_rstatus(PyObject* rstatus);
    py::Ref get_lost();

 private:
    struct Status {
        int pid;
        int status;
    };

    static void dead(Watch* watch);
    void watch_anew();
    void collect_for_all(Status& status, int options);
    static bool any_traces();

    ev_io* io() { return reinterpret_cast<ev_io*>(&ev_); }
    ev_signal* sigchld() { return reinterpret_cast<ev_signal*>(&ev_); }
    [[nodiscard]] bool watch_pidfd();
    [[nodiscard]] bool watch_sigchld();
    void enlist();
    void dismiss();
    bool collect(Status& status);
    bool take_handed(Status& status);
    bool concerns(Status status) const;
    void rest();

    Watch watch_;
    int pid_ = 0;
    int rpid_ = 0;
    int rstatus_ = 0;
    int pidfd_ = -1;  // -1: SIGCHLD
    bool trace_ = false;
    bool over_ = false;  // the one process has ended
    bool lost_ = false;  // and somebody else has its status
    Child* previous_child_ = nullptr;
    Child* next_child_ = nullptr;
    py::Array<Status> handed_;  // by others, under the list's lock
};

}  // namespace pyev::ev
