// Once: what libev's ev_once does, and can be stopped.
#include "ev/once.hpp"

#include <errno.h>

#include <cmath>

namespace pyev::ev {

using py::Ref;

static constexpr double kFarFuture = 1e300;

Once::Once() : watch_{io(), this, dead, nullptr} {
    ev_init(&timeout_, on_timeout);
    timeout_.data = this;
}

bool Once::configure(PyObject* const* lead) {
    int fd = -1, events;
    double after = -1;
    if (lead[0] != Py_None && !py::to_fd(lead[0], fd)) return false;
    if (!py::to_int(lead[1], events)) return false;
    if (lead[2] != Py_None && !py::to_double(lead[2], after)) return false;
    if (std::isnan(after)) return py::raise(PyExc_ValueError, "once: timeout must not be NaN");
    if (fd < 0 && !(after >= 0))
        return py::raise(PyExc_ValueError, "once: needs a descriptor or a timeout");
    if (events & ~(EV_READ | EV_WRITE))
        return py::raise(state()->error.get(),
                         "once: events must be of EV_READ and EV_WRITE, not %d", events);
    if (!inactive()) return false;
    fd_ = fd;
    events_ = events;
    after_ = after;
    return true;
}

bool Once::begin() {
    allow_for_time();
    // Beside an ev_io it is not counted, so it repeats: libev would count that it has stopped it.
    if (after_ >= 0) ev_timer_set(timer(), after_, fd_ >= 0 ? kFarFuture : 0.);
    if (!owner()->keep(object()) || !enter()) return false;
    if (fd_ >= 0) {
        ev_io_set(io(), fd_, events_);
        if (!begin_watch(&watch_)) return owner()->unkeep(object()), false;
    }
    if (after_ >= 0) {
        ev_timer_start(owner()->ev(), timer());
        timed_ = fd_ >= 0;
        if (timed_) ev_unref(owner()->ev());
    }
    return true;
}

void Once::stop_timeout() {
    if (!timed_) return;
    timed_ = false;
    ev_ref(owner()->ev());
    ev_timer_stop(owner()->ev(), &timeout_);
}

void Once::end() {
    stop_timeout();
    if (fd_ < 0)
        ev_timer_stop(owner()->ev(), timer());
    else
        owner()->descriptors().stop(&watch_);
    owner()->unkeep(object());
}

double Once::remaining() {
    return fd_ < 0 || timed_ ? ev_timer_remaining(owner()->ev(), timer()) : HUGE_VAL;
}

void Once::dead(Watch* watch) { static_cast<Once*>(watch->owner)->fail(EBADF); }

void Once::on_timeout(struct ev_loop*, ev_timer* ev, int revents) {
    auto* once = static_cast<Once*>(ev->data);
    Prefetch& prefetch = once->own_loop()->prefetch();
    if (prefetch.takes()) return prefetch.take(ev, revents, once);
    once->event(EV_TIMER);
}

// The first event ends it; what else has come is told with it.
void Once::event(int revents) {
    if (revents & EV_ERROR) return fail(0);
    Ref self = Ref::borrow(object());
    revents |= ev_clear_pending(owner()->ev(), &ev_);
    if (timed_) revents |= ev_clear_pending(owner()->ev(), &timeout_);
    stop_now();
    deliver(revents);
}

Ref Once::describe() {
    Ref after = after_ < 0 ? Ref::none() : Ref::steal(PyFloat_FromDouble(after_));
    if (!after) return {};
    if (fd_ < 0) return Ref::steal(PyUnicode_FromFormat("timeout=%S", after.get()));
    return Ref::steal(PyUnicode_FromFormat("fd=%d timeout=%S", fd_, after.get()));
}

const py::TypeInfo Once::kType = {
    kName,
    R"(What Loop.once() returns: one wait for a descriptor or a timeout, whichever comes first.

Only Loop.once() makes it. It is active from the beginning, calls its callback at most once and is
inactive then; stop() cancels it, and start() waits once more, with the same timeout.
libev manual: "OTHER FUNCTIONS", ev_once.)",
    nullptr, nullptr};

}  // namespace pyev::ev
