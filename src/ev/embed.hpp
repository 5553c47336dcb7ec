// Embed: another loop, swept whenever its backend's descriptor is ready.
//
// libev's own ev_embed runs the other loop behind our back: dead descriptors would not be looked
// for, and an exception would have no way out. So this is its three parts put together anew: an
// ev_io on the other's backend, an ev_prepare that hands over its changes, and an ev_fork.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Embed : public WatcherOf<Embed, ev_io, ev_io_start, ev_io_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Embed";
    static constexpr int kEvent = EV_EMBED;
    static constexpr const char* kLeadNames[] = {"other"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 1;
    static constexpr bool kNeedsCallback = false;
    static constexpr bool kAwaitable = false;  // without a callback it runs the other loop

    Embed();

    template <class F>
    void each_ref(F f) {
        Watcher::each_ref(f);
        f(other_);
    }
    bool configure(PyObject* const* lead);
    bool begin();
    void end();
    void event(int revents);
    py::Ref describe();
    py::Ref second() { return py::read(fields_, other_); }
    // The other loop may have made its backend anew: watch that.
    bool refresh();
    Embed* next_embedder() const { return next_embedder_; }

    py::Ref sweep();
    py::Ref get_other();

 private:
    static void dead(Watch* watch);
    static void on_prepare(struct ev_loop*, ev_prepare* ev, int);
    static void on_fork(struct ev_loop*, ev_fork* ev, int);

    Loop* other() { return py::value_of<Loop>(other_.get()); }
    [[nodiscard]] bool watch_backend();
    void unwatch_turns();
    [[nodiscard]] bool turn();
    void turn_or_report();

    py::Ref other_;
    Watch watch_;
    Embed* next_embedder_ = nullptr;
    unsigned generation_ = 0;  // of the backend that is watched
    ev_prepare prepare_;
    ev_fork fork_;
};

}  // namespace pyev::ev
