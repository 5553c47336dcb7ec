// Loop as Python sees it.
#include "ev/loop.hpp"

#include <errno.h>

#include <algorithm>
#include <cmath>

#include "ev/backend.hpp"
#include "ev/signals.hpp"
#include "ev/watcher.hpp"

namespace pyev::ev {

using py::Ref;

static bool to_interval(PyObject* object, const char* name, double& result) {
    if (!py::to_double(object, result)) return false;
    if (result >= 0 && std::isfinite(result)) return true;
    return py::raise(PyExc_ValueError, "%s must be finite and not negative, not %R", name, object);
}

static bool check_callback(PyObject* callback) {
    return callback == Py_None || PyCallable_Check(callback) ||
           py::raise(PyExc_TypeError, "Loop: callback must be callable or None, not '%.200s'",
                     Py_TYPE(callback)->tp_name);
}

static constexpr const char* kNames[] = {"flags",       "callback",         "data",
                                         "io_interval", "timeout_interval", "debug"};

bool Loop::init(py::Args args) {
    PyObject* slots[6] = {};
    if (!py::bind({"Loop", kNames, 6, 6, 0}, args, slots)) return false;
    int flags = EVFLAG_AUTO;
    double io_interval = 0, timeout_interval = 0;
    bool debug = false;
    if (slots[0] && !py::to_int(slots[0], flags)) return false;
    if (slots[1] && !check_callback(slots[1])) return false;
    if (slots[3] && !to_interval(slots[3], "io_interval", io_interval)) return false;
    if (slots[4] && !to_interval(slots[4], "timeout_interval", timeout_interval)) return false;
    if (slots[5] && !py::to_bool(slots[5], debug)) return false;
    if (!state_) {
        state_ = State::of_type(Py_TYPE(object()));
        if (!state_) return false;
        state_->acquire();
    } else {
        return py::raise(state_->error.get(), "%R is initialised already", object());
    }
    if (!check_flags(*state_, static_cast<unsigned>(flags)) ||
        !create(static_cast<unsigned>(flags))) {
        std::exchange(state_, nullptr)->release();  // it can be tried again
        return false;
    }
    if (slots[1] && slots[1] != Py_None) callback_ = Ref::borrow(slots[1]);
    data_ = Ref::borrow(slots[2]);
    pause_.set(io_interval);
    timeout_interval_ = timeout_interval;
    ev_set_timeout_collect_interval(ev_, std::min(timeout_interval, 1e6));
    debug_ = debug;
    return true;
}

// The default loop; `made`, when there is none.
static Ref the_default(State& state, const Ref& made) {
    py::Hold hold(state.mutex);
    Ref loop = state.default_loop ? py::try_ref(state.default_loop->object()) : Ref();
    if (loop || !made) return loop;
    state.default_loop = py::value_of<Loop>(made.get());
    return made;
}

Ref Loop::make_default(State& state, py::Args args) {
    if (Ref loop = the_default(state, Ref())) {
        if ((args.count || args.names) &&
            PyErr_WarnEx(PyExc_RuntimeWarning,
                         "the default loop exists already: these arguments are ignored", 1) < 0)
            return {};
        return loop;
    }
    auto* type = reinterpret_cast<PyObject*>(state.type<Loop>());
    Ref made = Ref::steal(PyObject_Vectorcall(type, args.values, args.count, args.names));
    if (!made) return {};
    return the_default(state, made);  // another thread may have been quicker
}

bool Loop::refuse() {
    if (is_alive())
        return py::raise(
            PyExc_RuntimeError,
            "the loop is running in another thread: from here only %s may be called",
            driver_ ? "call_soon_threadsafe()" : "the send() of an Async and feed_signal()");
    State* state = state_ ? state_ : State::of_type(Py_TYPE(object()));
    if (!state) return false;
    if (orphaned_)
        return py::raise(state->error.get(),
                         "another thread ran this loop when the process was forked");
    return py::raise(state->error.get(),
                     state_ ? "the loop is closed" : "Loop.__init__() was not called");
}

void Loop::link(Watcher* watcher) {
    watcher->previous_ = nullptr;
    watcher->next_ = watchers_;
    if (watchers_) watchers_->previous_ = watcher;
    watchers_ = watcher;
    ++linked_;
}

void Loop::unlink(Watcher* watcher) {
    (watcher->previous_ ? watcher->previous_->next_ : watchers_) = watcher->next_;
    if (watcher->next_) watcher->next_->previous_ = watcher->previous_;
    --linked_;
}

bool Loop::keep(PyObject* once) {
    if (!onces_) onces_ = Ref::steal(PySet_New(nullptr));
    return onces_ && PySet_Add(onces_.get(), once) == 0;
}

void Loop::unkeep(PyObject* once) {
    py::ErrorGuard guard;
    if (onces_ && PySet_Discard(onces_.get(), once) < 0) PyErr_Clear();
}

Ref Loop::repr() {
    const char* name = Py_TYPE(object())->tp_name;
    py::Hold hold(gate_);
    if (!ev_)
        return Ref::steal(PyUnicode_FromFormat("<%s %s at %p>", name,
                                               state_ ? "closed" : "not initialised", object()));
    return Ref::steal(
        PyUnicode_FromFormat("<%s%s %s%s at %p>", name, is_default() ? " default" : "",
                             backend_name(ev_backend(ev_)), running() ? " running" : "", object()));
}

// Running.

bool Loop::own() {
    return !driver_ || py::raise(PyExc_RuntimeError,
                                 "this pyev.Loop belongs to an asyncio event loop: "
                                 "only that may run, close or embed it");
}

Ref Loop::start(py::Args args) {
    static constexpr const char* names[] = {"flags"};
    PyObject* slots[1] = {};
    int flags = 0, remaining = 0;
    if (!py::bind({"start", names, 1, 1, 0}, args, slots)) return {};
    if (slots[0] && (!py::to_int(slots[0], flags) || !enter())) return {};
    if (flags & ~(EVRUN_NOWAIT | EVRUN_ONCE))
        return py::raise(PyExc_ValueError, "start() takes EVRUN_NOWAIT or EVRUN_ONCE, not %d",
                         flags);
    if (!own() || !run(flags, &remaining)) return {};
    return Ref::steal(PyBool_FromLong(remaining));
}

Ref Loop::stop(py::Args args) {
    static constexpr const char* names[] = {"how"};
    PyObject* slots[1] = {};
    int how = EVBREAK_ONE;
    if (!py::bind({"stop", names, 1, 1, 0}, args, slots)) return {};
    if (slots[0] && (!py::to_int(slots[0], how) || !enter())) return {};
    if (how < EVBREAK_CANCEL || how > EVBREAK_ALL)
        return py::raise(PyExc_ValueError,
                         "stop() takes EVBREAK_ONE, EVBREAK_ALL or EVBREAK_CANCEL, not %d", how);
    if (driver_)
        driver_->stop(driver_);
    else if (running())
        ev_break(ev_, break_ = how);
    return Ref::none();
}

Ref Loop::invoke() {
    if (!own() || !guarded([this] { ev_invoke_pending(ev_); })) return {};
    return Ref::none();
}

Ref Loop::reset() {
    ev_loop_fork(ev_);
    forked_ = true;
    return Ref::none();
}

// The last started Cleanup first, as libev has it; other pending events are invoked with them.
void Loop::run_cleanups() {
    Watcher* last = watchers_;
    while (last && last->next_) last = last->next_;
    for (Watcher* watcher = last; watcher; watcher = watcher->previous_)
        if (watcher->kind().event == EV_CLEANUP && watcher->is_active())
            ev_feed_event(ev_, watcher->base(), EV_CLEANUP);
    ev_invoke_pending(ev_);
}

Ref Loop::close() {
    if (!ev_) return Ref::none();
    if (!orphaned_ && (!enter() || !own())) return {};
    if (frame_ && !orphaned_)
        return py::raise(state_->error.get(), "%R cannot be closed while it runs", object());
    if (orphaned_) {
        frame_ = nullptr;
        destroy();
        return Ref::none();
    }
    closing_ = true;
    bool clean = guarded([this] { run_cleanups(); });
    {
        py::ErrorGuard guard;
        destroy();
    }
    closing_ = false;
    if (!clean) return {};
    return Ref::none();
}

Ref Loop::enter_with() { return Ref::borrow(object()); }
Ref Loop::exit_with(py::Args) { return close(); }

// Time.

Ref Loop::now() { return Ref::steal(PyFloat_FromDouble(ev_now(ev_))); }

Ref Loop::update() {
    if (!guarded([this] { ev_now_update(ev_), settle(); })) return {};
    return Ref::none();
}

Ref Loop::suspend() {
    if (!guarded([this] { ev_suspend(ev_), settle(); })) return {};
    return Ref::none();
}

Ref Loop::resume() {
    if (!guarded([this] { postponed_.settle(), ev_resume(ev_), settle(); })) return {};
    // An event loop's own delays go on meanwhile: it starts this again.
    if (driver_) ev_timer_stop(ev_, driver_->timer);
    return Ref::none();
}

// Bookkeeping.

Ref Loop::ref() {
    ev_ref(ev_);
    ++references_;
    return Ref::none();
}

// As libev counts, which leaves out what is pending and no more active.
long Loop::held() const {
    long held = holding_ + references_;
    if (ev_pending_count(ev_))
        for (Watcher* watcher = watchers_; watcher; watcher = watcher->next_)
            held -= watcher->holds_no_more();
    return held;
}

Ref Loop::unref() {
    if (held() <= 0)
        return py::raise(state_->error.get(), "unref() without a ref() or an active watcher");
    ev_unref(ev_);
    --references_;
    return Ref::none();
}

Ref Loop::verify() {
    // A stop() before the ref() that goes with it is no damage, but more of them are to libev.
    const long missing = -held();
    for (long i = 0; i < missing; ++i) ev_ref(ev_);
    ev_verify(ev_);
    for (long i = 0; i < missing; ++i) ev_unref(ev_);
    return Ref::none();
}

Ref Loop::feed_fd_event(py::Args args) {
    static constexpr const char* names[] = {"fd", "revents"};
    PyObject* slots[2] = {};
    int fd, revents;
    if (!py::bind({"feed_fd_event", names, 2, 2, 2}, args, slots)) return {};
    if (!py::to_fd(slots[0], fd) || !py::to_int(slots[1], revents) || !enter()) return {};
    ev_feed_fd_event(ev_, fd, revents);
    return Ref::none();
}

Ref Loop::feed_signal_event(PyObject* object) {
    int signum;
    if (!to_signal(object, signum) || !enter()) return {};
    ev_feed_signal_event(ev_, signum);
    return Ref::none();
}

// Attributes.

bool Loop::set_callback(PyObject* callback) {
    if (!own() || !check_callback(callback)) return false;
    py::publish(gate_, callback_, callback == Py_None ? Ref() : Ref::borrow(callback));
    return true;
}

bool Loop::set_data(PyObject* data) {
    py::publish(gate_, data_, Ref::borrow(data));
    return true;
}

Ref Loop::get_debug() { return Ref::steal(PyBool_FromLong(debug_)); }
bool Loop::set_debug(PyObject* debug) { return py::to_bool(debug, debug_); }

Ref Loop::get_io_interval() { return Ref::steal(PyFloat_FromDouble(pause_.get())); }

bool Loop::set_io_interval(PyObject* object) {
    double interval;
    if (!to_interval(object, "io_interval", interval) || !enter()) return false;
    pause_.set(interval);
    return true;
}

Ref Loop::get_timeout_interval() { return Ref::steal(PyFloat_FromDouble(timeout_interval_)); }

bool Loop::set_timeout_interval(PyObject* object) {
    double interval;
    if (!to_interval(object, "timeout_interval", interval) || !enter()) return false;
    timeout_interval_ = interval;
    // libev turns it into milliseconds in an int; it polls at least that often anyway.
    ev_set_timeout_collect_interval(ev_, std::min(interval, 1e6));
    return true;
}

Ref Loop::get_backend() { return Ref::steal(PyLong_FromLong(ev_backend(ev_))); }
Ref Loop::get_closed() { return Ref::steal(PyBool_FromLong(!ev_)); }
Ref Loop::get_default() { return Ref::steal(PyBool_FromLong(is_default())); }
Ref Loop::get_depth() { return Ref::steal(PyLong_FromLong(ev_depth(ev_))); }
Ref Loop::get_iteration() { return Ref::steal(PyLong_FromUnsignedLong(ev_iteration(ev_))); }
Ref Loop::get_pending() { return Ref::steal(PyLong_FromUnsignedLong(ev_pending_count(ev_))); }

}  // namespace pyev::ev
