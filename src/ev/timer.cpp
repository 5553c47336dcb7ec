// Timer: libev's ev_timer.
#include "ev/timer.hpp"

#include <cmath>

namespace pyev::ev {

using py::Ref;

static bool to_repeat(PyObject* object, double& repeat) {
    if (!py::to_double(object, repeat)) return false;
    if (repeat >= 0) return true;
    return py::raise(PyExc_ValueError, "Timer: repeat must not be negative or NaN, but is %R",
                     object);
}

bool Timer::configure(PyObject* const* lead) {
    double after, repeat;
    if (!py::to_double(lead[0], after) || !to_repeat(lead[1], repeat) || !inactive()) return false;
    if (std::isnan(after)) return py::raise(PyExc_ValueError, "Timer: after must not be NaN");
    // Minus infinity and an infinite repeat would make a NaN of libev's next time.
    ev_timer_set(&ev_, std::fmax(after, -1e300), repeat);
    return true;
}

bool Timer::begin() {
    allow_for_time();
    ev_timer_start(owner()->ev(), &ev_);
    return true;
}

// libev keeps the time that is left, for the next start().
void Timer::end() {
    const bool postponed = postponed_ != 0;
    forget_postponed();
    WatcherOf::end();
    if (postponed) ev_.at = due_ - own_loop()->postponed().now();
}

Ref Timer::reset() {
    allow_for_time();  // a rush of a driven loop goes on between its runs
    if (is_active() && own_loop()->rushes() && !is_pending() && own_loop()->postponed().add(this))
        return Ref::none();
    forget_postponed();
    if (is_active()) {
        ev_timer_again(owner()->ev(), &ev_);
        return is_active() ? Ref::none() : stop();
    }
    settle_hold();
    if (!may_start()) return {};
    if (is_active()) return Ref::none();
    ev_timer_again(owner()->ev(), &ev_);
    if (is_active()) take_hold();
    return Ref::none();
}

Ref Timer::describe() {
    Ref repeat = get_repeat();
    if (!repeat) return {};
    return Ref::steal(PyUnicode_FromFormat("repeat=%S", repeat.get()));
}

Ref Timer::get_repeat() { return Ref::steal(PyFloat_FromDouble(ev_.repeat)); }

bool Timer::set_repeat(PyObject* object) {
    double repeat;
    if (!to_repeat(object, repeat) || !enter()) return false;
    own_loop()->postponed().settle();  // each with the value it was pushed back by
    ev_.repeat = repeat;
    return true;
}

Ref Timer::get_remaining() {
    double remaining = postponed_ ? due_ - own_loop()->postponed().now()
                                  : ev_timer_remaining(own_loop()->ev(), &ev_);
    return Ref::steal(PyFloat_FromDouble(remaining));
}

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", R"(set($self, /, after, repeat)
--

Set the delay and the repeat value, in seconds, for the next start().

Raises Error while active, and as Timer() does.)"),
    py::noargs<&Timer::reset>("reset", R"(reset($self, /)
--

Start a repeating timer over: it is due in repeat seconds from now, whether active or not.

With repeat 0.0 it is stopped instead. A pending event is dropped. This is the cheap way to push a
timeout back. libev manual: ev_timer_again.)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::getset<&Timer::get_repeat, &Timer::set_repeat>(
        "repeat",
        R"(Seconds between calls; 0.0 for a single one. Writable at any time, used from the next call on.

Setting a negative value or NaN raises ValueError.)"),
    py::get<&Timer::get_remaining, py::Guard::kWaits>(
        "remaining",
        R"(Seconds until it is due; for an inactive one, those it would take. Read-only.

libev manual: ev_timer_remaining.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Timer::kType = {
    kName, R"(Timer(after, repeat, loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_TIMER) after a delay, and then again and again if repeat is not 0.

after: seconds from Loop.now() at start(); 0 or less is due at once. repeat: seconds between
later calls, 0.0 for a single one, after which the watcher is inactive. It counts on the monotonic
clock: setting the system's clock changes nothing.
Raises ValueError for a NaN after and a negative or NaN repeat, TypeError for what is no number.
libev manual: "ev_timer - relative and optionally repeating timeouts".)",
    methods, getset};

}  // namespace pyev::ev
