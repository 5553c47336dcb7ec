// Scheduler: libev's ev_periodic with a reschedule function in Python.
#include "ev/scheduler.hpp"

#include <cmath>

namespace pyev::ev {

using py::Ref;

// Farther than libev ever waits, and finite.
static constexpr double kFarFuture = 1e300;

double Scheduler::reschedule(ev_periodic* ev, double) noexcept {
    Scheduler* self = from(ev);
    if (self->known_) return self->next_time_;
    self->unsettled_ = true;
    self->owner()->unsettle();
    return kFarFuture;
}

// Asks the function for the next time. Python code runs here.
bool Scheduler::ask() {
    Ref self = Ref::borrow(object());
    Loop* loop = owner();
    Ref keep = loop_;
    double now = ev_now(loop->ev());
    Ref argument = Ref::steal(PyFloat_FromDouble(now));
    if (!argument) return false;
    Ref scheduler = scheduler_;
    Ref answer = py::call(scheduler.get(), self.get(), argument.get());
    double next;
    if (!answer) return false;
    if (!PyNumber_Check(answer.get()))
        return py::raise(PyExc_TypeError, "scheduler of %R must return a number, not '%.200s'",
                         self.get(), Py_TYPE(answer.get())->tp_name);
    if (!py::to_double(answer.get(), next)) return false;
    if (std::isnan(next))
        return py::raise(loop->state().error.get(), "scheduler of %R returned NaN", self.get());
    if (next < now)
        return py::raise(loop->state().error.get(),
                         "scheduler of %R returned %R, which is before now (%R)", self.get(),
                         answer.get(), argument.get());
    if (owner() != loop)
        return py::raise(loop->state().error.get(), "scheduler of %R moved it to another loop",
                         self.get());
    next_time_ = std::fmin(next, kFarFuture);
    return enter();
}

// Puts an active one where it belongs in libev's heap; what is pending stays so.
void Scheduler::place() {
    int pending = ev_clear_pending(owner()->ev(), &ev_);
    known_ = true;
    ev_periodic_again(owner()->ev(), &ev_);
    known_ = false;
    if (pending) ev_feed_event(owner()->ev(), &ev_, pending);
}

// Outside the loop as inside: by the rules for an exception in a callback.
bool Scheduler::report() {
    Loop* loop = owner();
    Ref source = scheduler_ ? scheduler_ : Ref::borrow(object());
    return loop->guarded([&] { report_end(loop, source.get()); });
}

// The watcher is stopped: its exception goes to who awaits it.
void Scheduler::report_end(Loop* loop, PyObject* source) {
    Driver* driver = awaited() ? loop->driver() : nullptr;
    if (!driver || py::ends_program()) loop->report(source);
    if (driver) driver->end_waits(driver, this);
}

bool Scheduler::begin() {
    allow_for_time();
    if (!ask()) {
        stop_now();  // the function may have started it
        return !awaited() && report();
    }
    if (is_active()) return true;  // the function has started it
    unsettled_ = false;
    known_ = true;
    owner()->descriptors().opening_timerfd([&] { ev_periodic_start(owner()->ev(), &ev_); });
    known_ = false;
    return true;
}

// Asks, and stops the watcher when there is no answer.
void Scheduler::ask_again() {
    unsettled_ = false;
    Ref self = py::try_ref(object());
    if (!self) return;
    Loop* loop = owner();
    if (!ask()) {
        if (owner() == loop) stop_now();
        Ref source = scheduler_ ? scheduler_ : self;
        return report_end(loop, source.get());
    }
    if (is_active()) place();
}

bool Scheduler::settle() {
    // One that is pending is asked when its event is delivered.
    if (!unsettled_ || !is_active() || is_pending()) return false;
    ask_again();
    return true;
}

// The time has come, so the callback is called even when there is no next one.
void Scheduler::event(int revents) {
    if (revents & EV_ERROR) return fail(0);
    Ref self = Ref::borrow(object());
    // Who awaits it is told of the event first, then of a failure.
    const bool told = awaited();
    if (told) deliver(revents);
    if (unsettled_ && is_active()) ask_again();
    if (owner() && !told) deliver(revents);
}

Ref Scheduler::reset() {
    if (!is_active()) return start();
    allow_for_time();
    if (!ask()) {
        if (owner()) stop_now();
        if (!report()) return {};
        return Ref::none();
    }
    unsettled_ = false;
    if (is_active()) {
        ev_clear_pending(owner()->ev(), &ev_);
        place();
    }
    return Ref::none();
}

bool Scheduler::configure(PyObject* const* lead) { return inactive() && set_scheduler(lead[0]); }

Ref Scheduler::describe() {
    Ref scheduler = py::read(fields_, scheduler_);
    if (!scheduler) return Ref::steal(PyUnicode_FromString(""));
    return Ref::steal(PyUnicode_FromFormat("scheduler=%R", scheduler.get()));
}

Ref Scheduler::get_scheduler() { return scheduler_ ? scheduler_ : Ref::none(); }

bool Scheduler::set_scheduler(PyObject* scheduler) {
    if (!PyCallable_Check(scheduler))
        return py::raise(PyExc_TypeError, "Scheduler: scheduler must be callable, not '%.200s'",
                         Py_TYPE(scheduler)->tp_name);
    py::publish(fields_, scheduler_, Ref::borrow(scheduler));
    return true;
}

Ref Scheduler::get_at() { return Ref::steal(PyFloat_FromDouble(ev_periodic_at(&ev_))); }

static PyMethodDef methods[] = {
    py::noargs<&Scheduler::reset>("reset", R"(reset($self, /)
--

Ask the scheduler again. Starts an inactive watcher. What the scheduler raises is treated as an
exception in a callback: see Loop.debug.

libev manual: ev_periodic_again.)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::getset<&Scheduler::get_scheduler, &Scheduler::set_scheduler, py::Guard::kNone>(
        "scheduler",
        R"(scheduler(watcher, now), returning the next time. Writable; used at the next asking.

Setting what is not callable, or deleting it, raises TypeError.)"),
    py::get<&Scheduler::get_at>("at",
                                R"(The time of the next call, in seconds since the epoch. Read-only.

libev manual: ev_periodic_at.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Scheduler::kType = {
    kName, R"(Scheduler(scheduler, loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_PERIODIC) at times that a function gives: a Periodic of your own.

scheduler(watcher, now) returns the next time in seconds since the epoch, now or later; it is asked
at start() and reset(), with each event just before the callback, and when the clock was set.
If it raises, returns no number (TypeError), or a time before now (Error), the watcher is stopped,
and that is treated as an exception in a callback, in start() and reset() too: see Loop.debug.
Raises TypeError if scheduler is not callable.
libev manual: "ev_periodic - to cron or not to cron?", manual reschedule mode.)",
    methods, getset};

}  // namespace pyev::ev
