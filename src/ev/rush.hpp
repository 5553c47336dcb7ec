// Rush: while there are events in every turn, polls do not wait.
//
// A poll that may wait costs more than one that may not, even if it finds events at once: libev
// gives each a timeout, for which the kernel reads its clocks, and the GIL is let go and taken
// back. So after some quick turns an ev_idle of ours, which nobody sees, makes libev poll without
// waiting. When a poll finds nothing libev invokes it, and the rush is over: that poll is one more
// than without it, so there is no rush where a watcher would notice.
#pragma once

#include <ev.h>

namespace pyev::ev {

class Rush {
 public:
    void init(struct ev_loop* loop);
    bool on() const { return ev_is_active(&idle_); }
    // Just before a poll: whether there is a rush, which may be only where it is `allowed`.
    bool continues(bool allowed) {
        if (allowed) return on() || begins();
        end();
        return false;
    }
    // Just after a poll.
    void polled() {
        if (ev_is_pending(&idle_)) end();  // it found nothing
    }
    void end() {
        quick_ = 0;
        if (on()) stop();
    }

 private:
    bool begins();
    void stop();

    struct ev_loop* loop_ = nullptr;
    ev_idle idle_ = {};
    bool possible_ = false;
    double last_ = 0;  // time of the turn before
    int quick_ = 0;    // how many quick turns there were, one after another
};

}  // namespace pyev::ev
