// Periodic: libev's ev_periodic, without a reschedule function.
#include "ev/periodic.hpp"

#include <cmath>

namespace pyev::ev {

using py::Ref;

// Below 1/8192 libev calculates with 1/8192, and may then never catch up with the clock.
static constexpr double kMinInterval = 1.0 / 8192;

static bool check(double offset, double interval) {
    if (!std::isfinite(offset) || offset < 0)
        return py::raise(PyExc_ValueError, "Periodic: offset must be finite and not negative");
    if (!std::isfinite(interval) || interval < 0)
        return py::raise(PyExc_ValueError, "Periodic: interval must be finite and not negative");
    if (interval > 0 && interval < kMinInterval)
        return py::raise(PyExc_ValueError, "Periodic: interval must be 0 or at least 1/8192");
    if (interval > 0 && offset > interval)
        return py::raise(PyExc_ValueError, "Periodic: offset must not be beyond the interval");
    return true;
}

bool Periodic::configure(PyObject* const* lead) {
    double offset, interval;
    if (!py::to_double(lead[0], offset) || !py::to_double(lead[1], interval)) return false;
    if (!check(offset, interval) || !inactive()) return false;
    ev_periodic_set(&ev_, offset, interval, nullptr);
    return true;
}

bool Periodic::begin() {
    allow_for_time();
    owner()->descriptors().opening_timerfd([&] { ev_periodic_start(owner()->ev(), &ev_); });
    return true;
}

Ref Periodic::reset() {
    allow_for_time();
    bool was_active = is_active();
    settle_hold();
    if (!was_active && !may_start()) return {};
    was_active = is_active();
    owner()->descriptors().opening_timerfd([&] { ev_periodic_again(owner()->ev(), &ev_); });
    if (!was_active) take_hold();
    return Ref::none();
}

Ref Periodic::describe() {
    Ref offset = get_offset(), interval = get_interval();
    if (!offset || !interval) return {};
    return Ref::steal(PyUnicode_FromFormat("offset=%S interval=%S", offset.get(), interval.get()));
}

Ref Periodic::get_offset() { return Ref::steal(PyFloat_FromDouble(ev_.offset)); }

bool Periodic::set_offset(PyObject* object) {
    double offset;
    if (!py::to_double(object, offset) || !enter() || !check(offset, ev_.interval)) return false;
    ev_.offset = offset;
    return true;
}

Ref Periodic::get_interval() { return Ref::steal(PyFloat_FromDouble(ev_.interval)); }

bool Periodic::set_interval(PyObject* object) {
    double interval;
    if (!py::to_double(object, interval) || !enter() || !check(ev_.offset, interval)) return false;
    ev_.interval = interval;
    return true;
}

Ref Periodic::get_at() { return Ref::steal(PyFloat_FromDouble(ev_periodic_at(&ev_))); }

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", R"(set($self, /, offset, interval)
--

Set both values, in seconds, for the next start(). Raises Error while active, and as Periodic().)"),
    py::noargs<&Periodic::reset>("reset", R"(reset($self, /)
--

Stop and start again, so that changed offset and interval are used at once.

libev manual: ev_periodic_again.)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::getset<&Periodic::get_offset, &Periodic::set_offset>(
        "offset",
        R"(Seconds: the absolute time, or the shift within the interval. Writable, used from reset() or the
next call on. Raises ValueError as Periodic() does.)"),
    py::getset<&Periodic::get_interval, &Periodic::set_interval>(
        "interval",
        R"(Seconds between calls; 0.0 for a single one. Writable, used from reset() or the next call on.
Raises ValueError as Periodic() does.)"),
    py::get<&Periodic::get_at>("at",
                               R"(The time of the next call, in seconds since the epoch. Read-only.

libev manual: ev_periodic_at.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Periodic::kType = {
    kName,
    R"(Periodic(offset, interval, loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_PERIODIC) at wall-clock times: offset + N * interval, or once at offset.

interval 0.0: one call at the time offset, in seconds since the epoch. interval > 0: a call
whenever the time, less offset, is a multiple of interval; 0 <= offset <= interval. It follows the
system's clock when that is set.
Raises ValueError for a negative, infinite or NaN offset or interval, an interval above 0 and
below 1/8192 s, an offset above the interval; TypeError for what is no number.
libev manual: "ev_periodic - to cron or not to cron?".)",
    methods, getset};

}  // namespace pyev::ev
