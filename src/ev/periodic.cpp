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

Ref Periodic::reset() {
    bool was_active = is_active();
    settle_hold();
    ev_periodic_again(loop_->ev(), &ev_);
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
    py::fast<&Watcher::set>("set", "set($self, offset, interval)\n--\n\n"),
    py::noargs<&Periodic::reset>("reset", "reset($self)\n--\n\n"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::getset<&Periodic::get_offset, &Periodic::set_offset>("offset", ""),
    py::getset<&Periodic::get_interval, &Periodic::set_interval>("interval", ""),
    py::get<&Periodic::get_at>("at", ""),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Periodic::kType = {kName, "", methods, getset};

}  // namespace pyev::ev
