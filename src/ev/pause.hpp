// io_interval: at least so many seconds from poll to poll, to collect more events in each.
//
// libev sleeps for it holding the GIL, between its callbacks. So libev's own interval stays 0, and
// the sleep is here: after the last callback of a turn, without the GIL, ended early by the next
// timer, or by a signal.
#pragma once

#include <ev.h>

namespace pyev::ev {

class Watcher;

class Pause {
 public:
    void init(struct ev_loop* loop);
    double get() const { return interval_; }
    void set(double interval);
    void close() { set(0); }

    // The turn has come to its last callback before the poll.
    bool due() const { return due_; }
    // Sleeps, but not past the next timer of `watchers`, or the other `timer` if there is one, nor
    // when there is other work, or `fd` is readable.
    void sleep(Watcher* watchers, ev_timer* timer, int fd);
    void polled() {
        if (interval_ > 0) note_poll();
    }

 private:
    void note_poll();
    static void before_poll(struct ev_loop*, ev_prepare* watcher, int);

    struct ev_loop* loop_ = nullptr;
    ev_prepare prepare_ = {};
    double interval_ = 0;
    double last_ = 0;   // monotonic time of the last poll
    unsigned fed_ = 0;  // signals until then
    bool due_ = false;
};

}  // namespace pyev::ev
