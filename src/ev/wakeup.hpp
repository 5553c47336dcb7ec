// Ends a poll from another thread, cheaper than libev's Async.
//
// An eventfd that epoll watches for edges is never read, and is written to without the GIL: the
// thread that waits for both would else be woken only to wait on. libev watches it like any other
// descriptor; epoll is then told to look for edges, under the tag that libev gave it. Opened for
// loops that other threads do wake. Everything here needs the GIL; without one, what those threads
// call has a lock.
#pragma once

#include <ev.h>

#include "ev/descriptors.hpp"
#include "py/lock.hpp"

namespace pyev::ev {

class Wakeup {
 public:
    // Whether `send` can be used; if not, the caller has another way.
    bool usable() const { return edges_; }
    // And whether it would be sent to what it was.
    bool intact();
    // Ends the poll that is under way without the GIL, or about to be. Lets the GIL go meanwhile.
    // False: it could not, and cannot be used any more.
    [[nodiscard]] bool send();
    // The caller has used the other way.
    void note_other() {
        py::Hold hold(mutex_);
        ++others_;
    }

    // Before and after a poll of the loop's own thread: opens what is worth it by now.
    void before_poll(struct ev_loop* loop, Descriptors& descriptors) {
        if (others_ >= kWorth && !opened_) open(loop, descriptors);
    }
    void polled(Descriptors& descriptors) {
        if (tries_ > 0 && !edges_) find_edges(descriptors);
    }
    // libev makes its epoll anew, and knows of no edges.
    void note_rebuild() {
        py::Hold hold(mutex_);
        edges_ = false;
        tries_ = kTries;
    }
    void close();
    void after_fork() {
        senders_ = 0;
        close();
    }

 private:
    static constexpr unsigned kWorth = 8;
    static constexpr int kTries = 8;

    // What the descriptor is: the program may close it, and have a file of its own by that number.
    struct File {
        dev_t device;
        ino_t inode;
        bool has(int fd) const;
    };

    static void woken(struct ev_loop*, ev_io* io, int);
    static void dead(Watch* watch);
    void close_fd(int fd);
    void open(struct ev_loop* loop, Descriptors& descriptors);
    void find_edges(Descriptors& descriptors);

    struct ev_loop* loop_ = nullptr;
    Descriptors* descriptors_ = nullptr;
    Watch watch_ = {};
    ev_io io_ = {};
    int fd_ = -1;
    File file_ = {};
    py::Atomic<int> tries_ = 0;  // left to find libev's tag among many events
    py::Atomic<unsigned> others_ = 0;
    int senders_ = 0;      // threads inside `send`
    int closing_ = -1;     // the descriptor that the last of them closes
    bool opened_ = false;  // or tried, and given up
    py::Atomic<bool> edges_ = false;
    [[no_unique_address]] py::Mutex mutex_;
};

}  // namespace pyev::ev
