// The sleep that io_interval asks for.
#include "ev/pause.hpp"

#include <Python.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "ev/once.hpp"
#include "ev/signals.hpp"
#include "py/clock.hpp"

namespace pyev::ev {

// Seconds until `watcher` has something to do that is not an event of the backend's.
static double due_in(Watcher* watcher, struct ev_loop* loop) {
    ev_watcher* base = watcher->base();
    switch (watcher->kind().event) {
        case EV_TIMER:
            return ev_timer_remaining(loop, reinterpret_cast<ev_timer*>(base));
        case EV_PERIODIC:
            return ev_periodic_at(reinterpret_cast<ev_periodic*>(base)) - ev_now(loop);
        case EV_CUSTOM:
            return static_cast<Once*>(watcher)->remaining();
        case EV_ASYNC:
            return ev_async_pending(reinterpret_cast<ev_async*>(base)) ? 0 : HUGE_VAL;
        case EV_STAT: {
            auto* timer = &reinterpret_cast<ev_stat*>(base)->timer;
            return ev_is_active(timer) ? ev_timer_remaining(loop, timer) : HUGE_VAL;
        }
        case EV_IDLE:
            return 0;
        default:
            return HUGE_VAL;
    }
}

void Pause::init(struct ev_loop* loop) {
    loop_ = loop;
    ev_prepare_init(&prepare_, before_poll);
    ev_set_priority(&prepare_, EV_MINPRI);
    prepare_.data = this;
}

void Pause::set(double interval) {
    if (interval > 0 && interval_ <= 0) {
        ev_prepare_start(loop_, &prepare_);
        ev_unref(loop_);
    } else if (interval <= 0 && interval_ > 0) {
        ev_ref(loop_);
        ev_prepare_stop(loop_, &prepare_);
    }
    interval_ = interval;
}

void Pause::before_poll(struct ev_loop*, ev_prepare* watcher, int) {
    static_cast<Pause*>(watcher->data)->due_ = true;
}

void Pause::sleep(Watcher* watchers, ev_timer* timer, int fd) {
    due_ = false;
    double delay = std::min(interval_ - (py::monotonic() - last_), 3600.0);
    bool active = timer;
    ev_now_update(loop_);
    if (timer && ev_is_active(timer)) delay = std::min(delay, ev_timer_remaining(loop_, timer));
    for (Watcher* watcher = watchers; watcher && delay > 0; watcher = watcher->next()) {
        if (!watcher->is_active()) continue;
        active = true;
        delay = std::min(delay, due_in(watcher, loop_));
    }
    if (!active || delay <= 0) return;
    timespec time;
    time.tv_sec = static_cast<time_t>(delay);
    time.tv_nsec = static_cast<long>((delay - static_cast<double>(time.tv_sec)) * 1e9);
    PyThreadState* thread = PyEval_SaveThread();
    // A signal for libev ends it too if this thread takes it, or has it not begin.
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask);
    pollfd polled = {fd, POLLIN, 0};
    if (fed_ == fed_signals()) ppoll(&polled, 1, &time, &mask);
    pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    PyEval_RestoreThread(thread);
}

void Pause::note_poll() {
    last_ = py::monotonic();
    fed_ = fed_signals();
    due_ = false;
}

}  // namespace pyev::ev
