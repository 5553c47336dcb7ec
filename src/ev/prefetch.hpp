// Prefetch: of many watchers, the memory of those whose events have come is fetched ahead.
//
// With thousands of them that memory is in no cache, and each callback would wait for its own. What
// is pending only libev knows, and tells of it by invoking it, one after another. So it is asked to
// before it is to: what it invokes is taken down, and fed to it again. In between no Python code
// runs, and libev then invokes the same in the same order: it keeps a stack for each priority, and
// takes from the top of the highest.
#pragma once

#include <ev.h>

#include "py/array.hpp"

namespace pyev::ev {

class Watcher;

class Prefetch {
 public:
    // Where `watchers` are so many that it pays.
    void run(struct ev_loop* loop, size_t watchers) {
        if (watchers >= kMany && ev_pending_count(loop) >= kSome) run(loop);
    }
    // Whether a callback of libev, called by run(), has to take() its event and do nothing else.
    // All that might run Python code ask that.
    bool takes() const { return taking_; }
    // `watcher` may be null.
    void take(void* event, int revents, Watcher* watcher);

 private:
    // The watchers of a loop with fewer stay in the processor's cache, with all that they need.
    static constexpr size_t kMany = 1024;
    static constexpr unsigned kSome = 8;

    struct Taken {
        ev_watcher* event;
        Watcher* watcher;
        int revents;
    };

    void run(struct ev_loop* loop);
    void give_back();

    struct ev_loop* loop_ = nullptr;
    bool taking_ = false;
    py::Array<Taken> taken_;
};

}  // namespace pyev::ev
