// Timers that were pushed back in a rush.
//
// A timeout that is pushed back on each event moves in libev's heap each time, and hardly ever is
// due. While polls do not wait nothing depends on when libev would look at it next: only its new
// time is noted here, and libev is told once, when the rush is over, or when a time that libev
// knows has come. libev's manual has the idea, in "Be smart about timeouts".
#pragma once

#include <ev.h>

#include <limits>

#include "py/array.hpp"

namespace pyev::ev {

class Timer;

class Postponed {
 public:
    void init(struct ev_loop* loop) {
        loop_ = loop;
        clock_.active = 1;
    }
    // An active timer is due in `repeat` seconds from now. False: libev has to be told at once.
    bool add(Timer* timer);
    void remove(Timer* timer);
    // Seconds on libev's monotonic clock. It tells them only through an active timer: this one is
    // due at 0, so that nothing is lost to rounding, however far away the others are.
    double now() { return -ev_timer_remaining(loop_, &clock_); }
    // Just after a poll: what libev takes for due by an old time is not.
    void polled() {
        if (!timers_.empty()) check();
    }
    // Before a poll that may wait, or is none of the rush's.
    void settle() {
        if (!timers_.empty()) settle_all(false);
    }

 private:
    void check();
    void settle_all(bool drop_pending);

    struct ev_loop* loop_ = nullptr;
    ev_timer clock_ = {};  // never started
    py::Array<Timer*> timers_;
    // No later than any time that libev has for them.
    double first_ = std::numeric_limits<double>::infinity();
};

}  // namespace pyev::ev
