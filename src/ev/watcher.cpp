// What all watchers share.
#include "ev/watcher.hpp"

#include <errno.h>

#include <algorithm>

#include "ev/context_callback.hpp"

namespace pyev::ev {

using py::Ref;

State* Watcher::state() { return owner() ? &owner()->state() : State::of_type(Py_TYPE(object())); }

bool Watcher::refuse() {
    if (loop_) return owner()->enter();
    State* state = this->state();
    return state && py::raise(state->error.get(), "%s.__init__() was not called", kind().name);
}

bool Watcher::lock(py::Lock& lock, bool waits) {
    while (Ref held = py::read(fields_, loop_)) {
        auto* loop = py::value_of<Loop>(held.get());
        Ref second = kind().second(this);
        auto* other = second ? py::value_of<Loop>(second.get()) : nullptr;
        if (!loop->lock(lock, waits, held, other)) return false;
        if (held.get() == loop_.get() && second.get() == kind().second(this).get()) return true;
        lock.end();  // it was given to other loops meanwhile
    }
    return true;
}

bool Watcher::inactive() {
    if (!owner() || owner()->closed() || !is_active()) return true;
    return py::raise(owner()->state().error.get(), "%R is active: stop it first", object());
}

// Nobody would await what it returns.
static bool is_coroutine_function(PyObject* callback) {
    if (PyMethod_Check(callback)) callback = PyMethod_GET_FUNCTION(callback);
    if (!PyFunction_Check(callback)) return false;
    auto* code = reinterpret_cast<PyCodeObject*>(PyFunction_GET_CODE(callback));
    return code->co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR);
}

static bool check_callback(PyObject* callback, const Watcher::Kind& kind, bool needed) {
    if (is_coroutine_function(callback))
        return py::raise(PyExc_TypeError,
                         "%s: callback must not be a coroutine function: make a task in the "
                         "callback, or await a watcher without one",
                         kind.name);
    if (PyCallable_Check(callback) || (callback == Py_None && !needed)) return true;
    return py::raise(PyExc_TypeError, "%s: callback must be callable, not '%.200s'", kind.name,
                     Py_TYPE(callback)->tp_name);
}

static int clamped(int priority) { return std::clamp(priority, EV_MINPRI, EV_MAXPRI); }

bool Watcher::init(py::Args args, Loop* loop) {
    constexpr int kMost = 8;
    const int lead = kind().lead_size;
    const char* names[kMost];
    std::copy_n(kind().lead, lead, names);
    constexpr const char* kShared[] = {"loop", "callback", "data", "priority", "keepalive"};
    std::copy_n(kShared, 5, names + lead);
    PyObject* slots[kMost] = {};
    PyObject** shared = slots + lead;
    if (loop) shared[0] = loop->object();
    const char* short_name = kind().name + 5;  // without "pyev."
    py::Parameters parameters = {short_name, names, lead + 5, lead + 4, kind().lead_required};
    if (!py::bind(parameters, args, slots)) return false;
    if (kind().lead_required < lead && !slots[lead - 1]) slots[lead - 1] = Py_False;  // as 0
    parameters.required = lead + 1;
    if (!loop) {
        if (!shared[0] && !py::require(parameters, slots)) return false;
        State* state = this->state();
        if (!state) return false;
        if (!PyObject_TypeCheck(shared[0], state->type<Loop>()))
            return py::raise(PyExc_TypeError, "%s: loop must be a pyev.Loop, not '%.200s'%s",
                             kind().name, Py_TYPE(shared[0])->tp_name,
                             PyObject_HasAttrString(shared[0], "ev") ? ": its ev is one" : "");
        loop = py::value_of<Loop>(shared[0]);
    }
    Driver* driver = kind().awaitable ? loop->driver() : nullptr;
    const bool awaited = driver && (!shared[1] || shared[1] == Py_None);
    parameters.required += kind().needs_callback;
    if (!awaited && !py::require(parameters, slots)) return false;
    int priority = 0;
    bool keepalive = true;
    if (shared[1] && !awaited && !check_callback(shared[1], kind(), kind().needs_callback))
        return false;
    if (shared[3] && !py::to_int(shared[3], priority)) return false;
    if (shared[4] && !py::to_bool(shared[4], keepalive)) return false;
    Ref kept = py::kHasGil ? Ref() : py::read(fields_, loop_);
    py::Lock lock;
    if (!py::kHasGil && !loop->lock(lock, false, Ref::borrow(loop->object()), owner()))
        return false;
    // From here on no Python code runs but in `configure`, which looks at the state after it.
    if (!loop->enter() || !inactive()) return false;
    if (owner() && !owner()->closed() && owner() != loop && !owner()->enter()) return false;
    end_given_up();
    if (!kind().configure(this, slots) || !loop->enter()) return false;
    if (awaited) driver = loop->driver();
    if (awaited && !driver)
        return py::raise(loop->state().error.get(), "nothing drives %R any more", loop->object());
    Ref callback = awaited ? driver->make_audience(driver) : Ref::borrow(shared[1]);
    if (awaited && !callback) return false;
    if (this->awaited()) owner()->driver()->end_waits(owner()->driver(), this);
    if (!loop->enter() || !inactive()) return false;

    Ref old_loop = loop_, old_data = Ref::borrow(shared[2]);
    detach();
    py::allow_try_ref(object());
    {
        py::Hold hold(fields_);
        loop_ = Ref::borrow(shared[0]);
        callback_.swap(callback);
        if (old_data) data_.swap(old_data);
    }
    loop->link(this);
    priority_ = priority;
    ev_set_priority(base(), clamped(priority));
    keepalive_ = keepalive;
    return true;
}

void Watcher::detach() {
    if (!loop_) return;
    stop_now();
    owner()->unlink(this);
    py::publish(fields_, loop_, Ref());
}

void Watcher::stop_now() {
    if (!owner()->closed()) stop_open();
}

void Watcher::stop_open() {
    if (is_active() || hold_ != Hold::kNone) kind().stop(this);
    ev_clear_pending(own_loop()->ev(), base());
    release_hold();
}

void Watcher::end_given_up() {
    constexpr int kTimed = EV_TIMER | EV_PERIODIC;
    if (hold_ != Hold::kNone && !is_active() && !(kind().event & kTimed)) stop_now();
}

void Watcher::take_hold() {
    if (!kind().holds) return;
    if (keepalive_) {
        hold_ = Hold::kHolds;
        own_loop()->count(+1);
    } else {
        hold_ = Hold::kReleased;
        ev_unref(own_loop()->ev());
    }
}

void Watcher::release_hold() {
    Hold hold = std::exchange(hold_, Hold::kNone);
    if (hold == Hold::kHolds)
        own_loop()->count(-1);
    else if (hold == Hold::kReleased)
        ev_ref(own_loop()->ev());
}

void Watcher::deliver(int revents) {
    if (revents & EV_ERROR) return fail(0);
    settle_hold();
    if (!callback_ || callback_.get() == Py_None) return;
    Ref self = Ref::borrow(object());
    Loop* loop = owner();
    Ref callback = callback_;
    Ref events = loop->state().revents(revents);
    Ref result;
    if (events) result = py::call(callback.get(), self.get(), events.get());
    if (!result) loop->report(ContextCallback::callback_of(callback.get()));
}

void Watcher::prefetch_more() {
    constexpr Py_ssize_t kSlots = 8, kSize = sizeof(PyObject*);
    auto fetch = [](const char* memory) {
        for (int offset : {0, 64, 128}) __builtin_prefetch(memory + offset);
    };
    auto* memory = reinterpret_cast<const char*>(object());
    const Py_ssize_t size = Py_TYPE(object())->tp_basicsize, first = kind().size;
    const Py_ssize_t past = std::min(size - kSize, first + (kSlots - 1) * kSize);
    for (Py_ssize_t at = first; at <= past; at += kSize)
        fetch(*reinterpret_cast<const char* const*>(memory + at));
    fetch(reinterpret_cast<const char*>(data_.get()));
}

bool Watcher::begin_watch(Watch* watch) {
    int refused = owner()->descriptors().start(watch);
    return !refused || py::raise_errno(refused, object());
}

void Watcher::fail(int number) {
    Ref self = py::try_ref(object());
    Loop* loop = owner();
    stop_now();
    if (!self) return;
    if (number)
        (void)py::raise_errno(number, self.get());
    else
        (void)py::raise(loop->state().error.get(), "%R got EV_ERROR and was stopped", self.get());
    fail_with_error(loop);
}

void Watcher::fail_with_error(Loop* loop) {
    Driver* driver = loop->driver();
    if (owner() == loop && awaited())
        driver->end_waits(driver, this);
    else if (driver)
        driver->report(driver, object());
    else
        loop->fail();
}

void Watcher::finalize() {
    py::ErrorGuard guard;
    // Nobody has started an awaited one by hand.
    if (awaited()) return stop_now();
    Ref description = repr();
    stop_now();
    if (py::finalizing()) return;
    if (!description ||
        PyErr_ResourceWarning(object(), 1,
                              "%U was dropped before it was stopped: its loop does not keep it",
                              description.get()) < 0)
        PyErr_WriteUnraisable(object());
}

Ref Watcher::repr() {
    const char* name = Py_TYPE(object())->tp_name;
    Ref held = py::read(fields_, loop_);
    Loop* loop = held ? py::value_of<Loop>(held.get()) : nullptr;
    if (!loop) return Ref::steal(PyUnicode_FromFormat("<%s not initialised>", name));
    Ref description = kind().describe(this);
    if (!description) return {};
    const char* space = PyUnicode_GetLength(description.get()) ? " " : "";
    bool open = !loop->closed();
    return Ref::steal(PyUnicode_FromFormat("<%s%s%U%s%s at %p>", name, space, description.get(),
                                           open && is_active() ? " active" : "",
                                           open && is_pending() ? " pending" : "", object()));
}

// Python's methods.

bool Watcher::activate() {
    // libev may have stopped it, and its callback not yet been called.
    end_given_up();
    release_hold();
    if (!kind().start(this)) return false;
    // Python code that ran there may have started it.
    if (is_active() && hold_ == Hold::kNone) take_hold();
    return true;
}

// On a plain loop nothing is paid for what a driven one has.
Ref Watcher::start() {
    if (is_active()) return Ref::none();
    if (own_loop()->driver()) [[unlikely]] {
        if (!may_start_driven()) return {};
        if (is_active()) return Ref::none();
    }
    return activate() ? Ref::none() : Ref();
}

bool Watcher::may_start_driven() {
    if (awaited()) return py::raise(PyExc_TypeError, "%R has no callback: await it", object());
    Ref callback = callback_;
    if (!callback || callback.get() == Py_None) return true;
    // The garbage collector may run here, and what it calls may do anything to this.
    if (ContextCallback* in_context = ContextCallback::of(callback.get())) {
        if (!in_context->renew()) return false;
    } else {
        Ref made = ContextCallback::make(owner()->state(), callback.get());
        if (!made) return false;
        if (callback_.get() == callback.get()) py::publish(fields_, callback_, std::move(made));
    }
    return enter();
}

Ref Watcher::stop() {
    if (!loop_ || !own_loop()->is_open()) [[unlikely]] {
        // Nothing to do on a closed loop, which has stopped it.
        if (!owner() || !owner()->closed()) return refuse() ? Ref::none() : Ref();
        return Ref::none();
    }
    stop_open();
    if (own_loop()->driver()) [[unlikely]]
        return stopped_driven();
    return Ref::none();
}

Ref Watcher::stopped_driven() {
    if (awaited()) owner()->driver()->end_waits(owner()->driver(), this);
    return Ref::none();
}

Ref Watcher::invoke(PyObject* revents) {
    int events;
    if (!py::to_int(revents, events) || !enter()) return {};
    Ref self = Ref::borrow(object());
    if (!owner()->guarded([&] { ev_invoke(owner()->ev(), base(), events); })) return {};
    return Ref::none();
}

Ref Watcher::feed(PyObject* revents) {
    int events;
    if (!py::to_int(revents, events) || !enter()) return {};
    ev_feed_event(owner()->ev(), base(), events);
    return Ref::none();
}

Ref Watcher::clear() {
    int revents = ev_clear_pending(owner()->ev(), base());
    if (!is_active()) stop_open();
    // A Scheduler is asked with its event, or else soon.
    if (kind().event == EV_PERIODIC && revents) owner()->unsettle();
    if (awaited()) revents |= owner()->driver()->forget(owner()->driver(), this);
    return Ref::steal(PyLong_FromLong(revents));
}

Ref Watcher::set(py::Args args) {
    constexpr int kMost = 3;
    PyObject* slots[kMost] = {};
    int size = kind().lead_size;
    if (!inactive() || !py::bind({"set", kind().lead, size, size, size}, args, slots)) return {};
    end_given_up();
    if (!kind().configure(this, slots) || !enter()) return {};
    stop_open();
    if (awaited()) owner()->driver()->forget(owner()->driver(), this);
    return Ref::none();
}

Ref Watcher::enter_with() {
    if (!start()) return {};
    return Ref::borrow(object());
}

Ref Watcher::exit_with(py::Args) { return stop(); }

static bool driven(Watcher* watcher) {
    return watcher->owner()->driver() ||
           py::raise(PyExc_RuntimeError, "%R: only on an EventLoop's loop can it be awaited",
                     watcher->object());
}

Ref Watcher::await() {
    return driven(this) ? owner()->driver()->await(owner()->driver(), this) : Ref();
}

Ref Watcher::iterate() {
    return driven(this) ? owner()->driver()->iterate(owner()->driver(), this) : Ref();
}

template <Ref (Watcher::*F)()>
static PyObject* slot(PyObject* self) {
    auto* watcher = py::value_of<Watcher>(self);
    py::Locked locked(watcher);
    return locked && watcher->enter() ? (watcher->*F)().release() : nullptr;
}

Ref Watcher::get_loop() { return loop_ ? loop_ : Ref::none(); }

Ref Watcher::get_active() {
    return Ref::steal(PyBool_FromLong(owner() && !owner()->closed() && is_active()));
}

Ref Watcher::get_pending() {
    return Ref::steal(PyBool_FromLong(owner() && !owner()->closed() && is_pending()));
}

// What the audience or the context is put around is nobody's business.
Ref Watcher::get_callback() {
    if (!callback_ || awaited()) return Ref::none();
    return Ref::borrow(ContextCallback::callback_of(callback_.get()));
}

bool Watcher::set_callback(PyObject* callback) {
    bool driven = owner() && owner()->driver() && kind().awaitable;
    if (!check_callback(callback, kind(), kind().needs_callback && !driven)) return false;
    if (driven) return change_callback(callback);
    py::publish(fields_, callback_, Ref::borrow(callback));
    return true;
}

// On a driven loop. Whether it is called or awaited can be changed while it is not active.
bool Watcher::change_callback(PyObject* callback) {
    const bool will_be_awaited = callback == Py_None;
    Driver* driver = owner()->driver();
    if (will_be_awaited != awaited()) {
        if (!enter() || !inactive()) return false;
        if (awaited()) driver->end_waits(driver, this);
        Ref next = will_be_awaited ? driver->make_audience(driver) : Ref::borrow(callback);
        py::publish(fields_, callback_, std::move(next));
        return static_cast<bool>(callback_);
    }
    if (will_be_awaited) return true;
    ContextCallback* called = callback_ ? ContextCallback::of(callback_.get()) : nullptr;
    py::publish(fields_, called ? called->callback() : callback_, Ref::borrow(callback));
    return true;
}

bool Watcher::set_data(PyObject* data) {
    py::publish(fields_, data_, Ref::borrow(data));
    return true;
}

Ref Watcher::get_priority() { return Ref::steal(PyLong_FromLong(priority_)); }

bool Watcher::set_priority(PyObject* object) {
    int priority;
    if (!py::to_int(object, priority) || !enter()) return false;
    if (is_active() || is_pending())
        return py::raise(owner()->state().error.get(),
                         "%R is active or pending: its priority cannot be changed", this->object());
    priority_ = priority;
    ev_set_priority(base(), clamped(priority));
    return true;
}

Ref Watcher::get_keepalive() { return Ref::steal(PyBool_FromLong(keepalive_)); }

bool Watcher::set_keepalive(PyObject* object) {
    bool keepalive;
    if (!py::to_bool(object, keepalive) || !enter()) return false;
    keepalive_ = keepalive;
    if (is_active()) {
        release_hold();
        take_hold();
    }
    return true;
}

static PyMethodDef methods[] = {
    py::noargs<&Watcher::start>("start", R"(start($self, /)
--

Make the watcher active; does nothing if it is.

Raises Error when its loop is closed, RuntimeError when the loop runs in another thread, TypeError
when it has no callback and is to be awaited, and what each type says. libev manual: "GENERIC WATCHER FUNCTIONS".)"),
    py::noargs<&Watcher::stop, py::Guard::kNone>("stop", R"(stop($self, /)
--

Make the watcher inactive and drop its pending event; does nothing if it is neither.

The callback is not called for an event collected but not yet handed over.
Raises RuntimeError when the loop runs in another thread.
libev manual: "GENERIC WATCHER FUNCTIONS".)"),
    py::onearg<&Watcher::invoke>("invoke", R"(invoke($self, revents, /)
--

Call the callback with revents now, whether the watcher is active or not.

An exception in it is treated as in any callback: see Loop.debug.
libev manual: "GENERIC WATCHER FUNCTIONS", ev_invoke.)"),
    py::onearg<&Watcher::feed>("feed", R"(feed($self, revents, /)
--

Make the watcher pending as if revents had happened: its callback is called in the next turn.

The watcher need not be active. Raises Error when its loop is closed, RuntimeError when the loop
runs in another thread. Feeding EV_ERROR stops the watcher and makes start() raise.
libev manual: "GENERIC WATCHER FUNCTIONS", ev_feed_event.)"),
    py::noargs<&Watcher::clear>("clear", R"(clear($self, /)
--

Drop the pending event and return its revents; 0 if there was none.

libev manual: "GENERIC WATCHER FUNCTIONS", ev_clear_pending.)"),
    py::noargs<&Watcher::enter_with>("__enter__", R"(__enter__($self, /)
--

Start the watcher and return it. Raises what start() raises.)"),
    py::fast<&Watcher::exit_with, py::Guard::kNone>(
        "__exit__",
        R"(__exit__($self, exc_type, exc_value, traceback, /)
--

Stop the watcher.)"),
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     "__class_getitem__($type, item, /)\n--\n\nThe type with its `data` named, for annotations: "
     "Timer[str]. PEP 585."},
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Watcher::get_loop, py::Guard::kNone>(
        "loop", R"(The Loop it belongs to, also after that loop is closed. Read-only.)"),
    py::get<&Watcher::get_active, py::Guard::kNone>(
        "active",
        R"(Whether it has been started and neither stopped nor ended by itself. Read-only.)"),
    py::get<&Watcher::get_pending, py::Guard::kNone>(
        "pending", R"(Whether an event waits to be handed to its callback. Read-only.)"),
    py::getset<&Watcher::get_callback, &Watcher::set_callback, py::Guard::kNone>(
        "callback", R"(callback(watcher, revents), called for each event. Writable at any time.

None when it is awaited. Setting what is not callable, or deleting it, raises TypeError; on the loop
of an EventLoop, None may be set while it is not active.)"),
    py::getset<&Watcher::get_data, &Watcher::set_data, py::Guard::kNone, true>(
        "data", R"(Anything; for the program's own use. Deleting it sets None.)"),
    py::getset<&Watcher::get_priority, &Watcher::set_priority, py::Guard::kNone>(
        "priority",
        R"(Watchers of higher priority are called first within one batch. Reads back as given.

libev knows EV_MINPRI (-2) to EV_MAXPRI (2); other numbers count as the nearest of these.
Setting it while the watcher is active or pending raises Error.
libev manual: "WATCHER PRIORITY MODELS".)"),
    py::getset<&Watcher::get_keepalive, &Watcher::set_keepalive, py::Guard::kNone>(
        "keepalive",
        R"(Whether the active watcher keeps Loop.start() running; True unless given. Writable at any time.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

static const PyType_Slot slots[] = {
    {Py_am_await, reinterpret_cast<void*>(slot<&Watcher::await>)},
    {Py_am_aiter, reinterpret_cast<void*>(slot<&Watcher::iterate>)},
    {0, nullptr},
};

const py::TypeInfo Watcher::kType = {
    "pyev.Watcher",
    R"(What all watchers share. It cannot be made itself: Watcher() raises TypeError.

A watcher is made for one loop and is inactive until start(). It lives as long as something in
Python refers to it, its loop does not: dropping an active one stops it, with a ResourceWarning.
`with` starts it and stops it at the end. It may be subclassed, weakly referenced, a dictionary
key. `callback(watcher, revents)`: revents are the EV_* bits of what happened.
On the loop of an EventLoop, one without a callback is awaited: `await watcher` returns the revents
of its next event, `async for revents in watcher` those of each.
libev manual: "ANATOMY OF A WATCHER".)",
    methods, getset, slots};

}  // namespace pyev::ev
