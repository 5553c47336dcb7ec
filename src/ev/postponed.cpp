// Timers that were pushed back in a rush.
#include "ev/postponed.hpp"

#include <algorithm>

#include "ev/timer.hpp"

namespace pyev::ev {

// Beyond so many seconds after the start of the clock, 30 years, a time is too coarse to count
// with.
static constexpr double kFar = 1e9;

bool Postponed::add(Timer* timer) {
    const double repeat = timer->ev_.repeat, due = now() + repeat;
    // What comes sooner than libev knows is pulled forward, not pushed back.
    if (repeat <= 0 || due < timer->ev_.at || timer->ev_.at + repeat > kFar) return false;
    if (!timer->postponed_) {
        if (!timers_.push(timer)) {
            PyErr_Clear();
            return false;
        }
        timer->postponed_ = timers_.size();
        first_ = std::min(first_, timer->ev_.at);
    }
    timer->due_ = due;
    return true;
}

void Postponed::remove(Timer* timer) {
    size_t place = std::exchange(timer->postponed_, 0);
    Timer* last = timers_[timers_.size() - 1];
    timers_.remove_last();
    if (last == timer) return;
    timers_[place - 1] = last;
    last->postponed_ = place;
}

void Postponed::check() {
    if (first_ < now()) settle_all(true);
}

void Postponed::settle_all(bool drop_pending) {
    for (Timer* timer : timers_) {
        ev_timer* ev = &timer->ev_;
        double after = timer->due_ - now();
        timer->postponed_ = 0;
        int revents = ev_clear_pending(loop_, ev);
        ev_timer_stop(loop_, ev);
        ev_timer_set(ev, after, ev->repeat);
        ev_timer_start(loop_, ev);
        if (drop_pending) revents &= ~EV_TIMER;  // what was fed stays
        if (revents) ev_feed_event(loop_, ev, revents);
    }
    timers_.clear();
    first_ = std::numeric_limits<double>::infinity();
}

}  // namespace pyev::ev
