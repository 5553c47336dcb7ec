// Ctrl-C, and every other signal with a Python handler, ends a poll of the main thread.
//
// A signal that arrives just before the poll, or that another thread takes, interrupts no system
// call. Python's C handler writes a byte to the "wake-up fd" (signal.set_wakeup_fd), so while a
// loop runs that is a pipe which the loop watches. Whoever had set one before gets it back, and the
// bytes that were meant for it. A driver that has to hear of each such signal keeps it set also
// while the loop does not wait, or run.
#pragma once

#include <ev.h>

#include <utility>

#include "ev/descriptors.hpp"
#include "ev/state.hpp"

namespace pyev::ev {

class Interrupt {
 public:
    // Makes the pipe, once, and sets it. Without a descriptor to spare there is none: until there
    // is, a wait is a short one, so that signals are looked at. OSError for any other reason.
    [[nodiscard]] bool enter(State& state, struct ev_loop* loop, Descriptors& descriptors);
    void leave();
    void close();
    // Readable when a signal has come; -1 where nothing tells.
    int fd() const { return inside_ ? reader_ : -1; }
    // Another's, to which it would go back, is out of the row: there is what that one would go back
    // to.
    void forget(int fd, int before) {
        if (previous_ == fd) previous_ = before;
    }
    // Whether this is set by `fd` and its loop polls: then it lies over the one of `over` from here
    // on, and `before` is what that one goes back to.
    bool lay_over(int fd, int over, int& before) {
        if (!inside_ || writer_ != fd) return false;
        before = std::exchange(previous_, over);
        return true;
    }
    // Whether leave() leaves it set, until it is not kept any more.
    void keep(bool kept);

 private:
    [[nodiscard]] bool open(struct ev_loop* loop, Descriptors& descriptors);
    static void readable(struct ev_loop*, ev_io* io, int);
    void wait_shortly(struct ev_loop* loop);
    static void dead(Watch* watch);
    int set(int fd);
    bool let_go();
    [[nodiscard]] bool drain(bool tell);

    struct ev_loop* loop_ = nullptr;
    Descriptors* descriptors_ = nullptr;
    State* state_ = nullptr;
    Watch watch_ = {};
    ev_io io_ = {};
    ev_timer short_wait_ = {};
    int reader_ = -1;
    int writer_ = -1;
    int previous_ = -1;
    bool inside_ = false;
    bool kept_ = false;
};

}  // namespace pyev::ev
