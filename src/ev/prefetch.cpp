// Fetching watchers' memory ahead.
#include "ev/prefetch.hpp"

#include "ev/watcher.hpp"

namespace pyev::ev {

void Prefetch::run(struct ev_loop* loop) {
    loop_ = loop;
    taking_ = true;
    ev_invoke_pending(loop);
    if (taking_) give_back();
}

void Prefetch::take(void* event, int revents, Watcher* watcher) {
    if (watcher) watcher->prefetch();
    if (taken_.push({static_cast<ev_watcher*>(event), watcher, revents})) return;
    // No memory. libev goes on with what lies on top: what was taken first.
    PyErr_Clear();
    ev_feed_event(loop_, event, revents);
    give_back();
}

void Prefetch::give_back() {
    taking_ = false;
    for (size_t i = taken_.size(); i--;) {
        const Taken& taken = taken_[i];
        if (taken.watcher) taken.watcher->prefetch_more();
        ev_feed_event(loop_, taken.event, taken.revents);
    }
    taken_.clear();
}

}  // namespace pyev::ev
