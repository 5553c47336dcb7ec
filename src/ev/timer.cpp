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
    ev_timer_set(&ev_, after, repeat);
    return true;
}

// libev counts from the turn's time. Between runs nobody takes that, so a timer started long after
// would fire early.
void Timer::allow_for_time() {
    if (!loop_->running()) ev_now_update(loop_->ev());
}

bool Timer::begin() {
    allow_for_time();
    ev_timer_start(loop_->ev(), &ev_);
    return true;
}

Ref Timer::reset() {
    allow_for_time();
    settle_hold();
    bool was_active = is_active();
    ev_timer_again(loop_->ev(), &ev_);
    if (!was_active && is_active()) take_hold();
    if (was_active && !is_active()) release_hold();
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
    ev_.repeat = repeat;
    return true;
}

Ref Timer::get_remaining() {
    return Ref::steal(PyFloat_FromDouble(ev_timer_remaining(loop_->ev(), &ev_)));
}

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", "set($self, after, repeat)\n--\n\n"),
    py::noargs<&Timer::reset>("reset", "reset($self)\n--\n\n"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::getset<&Timer::get_repeat, &Timer::set_repeat>("repeat", ""),
    py::get<&Timer::get_remaining>("remaining", ""),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Timer::kType = {kName, "", methods, getset};

}  // namespace pyev::ev
