// The native half of pyev.EventLoop.
#include "aio/loop_base.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "ev/signals.hpp"
#include "py/call.hpp"
#include "py/clock.hpp"

namespace pyev::aio {

using py::Ref;

// A chain of callbacks that are always ready needs no system call; after so many of them, or so
// many milliseconds, one is made all the same, so that descriptors, signals and watchers get their
// turn.
static constexpr unsigned kBurst = 64;
static constexpr int64_t kLongBurst = 10;

// So many handles before it runs, one is fetched into the cache.
static constexpr size_t kAhead = 6;

// asyncio's own limit; a later timer is waited for in steps.
static constexpr double kLongestWait = 86400;

static constexpr double kNever = std::numeric_limits<double>::infinity();

static constexpr size_t kMostUntracked = 1 << 18;

LoopBase::LoopBase()
    : Driver{report,
             stop_driver,
             signalled,
             busy,
             [](Driver* driver) { return aio::make_audience(of(driver)); },
             [](Driver* driver, ev::Watcher* watcher) { return aio::await(of(driver), watcher); },
             [](Driver* driver, ev::Watcher* watcher) { return aio::iterate(of(driver), watcher); },
             [](Driver*, ev::Watcher* watcher) { aio::end(watcher); },
             [](Driver*, ev::Watcher* watcher) { return Audience::of(watcher)->forget(); },
             [](Driver* driver) { return of(driver)->in_turn(); },
             [](Driver* driver) { return of(driver)->send_before_fork(); }},
      readers_(this) {
    ev_init(&timer_, +[](struct ev_loop*, ev_timer*, int) {});
    timer = &timer_;
}

bool LoopBase::init(py::Args args) {
    static constexpr const char* names[] = {"ev"};
    PyObject* slots[1] = {};
    if (!py::bind({"LoopBase", names, 1, 1, 1}, args, slots)) return false;
    ev::State* state = ev::State::of_type(Py_TYPE(object()));
    if (!state) return false;
    if (loop_) return py::raise(PyExc_RuntimeError, "this event loop is initialised already");
    if (!PyObject_TypeCheck(slots[0], state->type<ev::Loop>()))
        return py::raise(PyExc_TypeError, "LoopBase: ev must be a pyev.Loop, not '%.200s'",
                         Py_TYPE(slots[0])->tp_name);
    auto* loop = py::value_of<ev::Loop>(slots[0]);
    py::Locked locked(loop);
    if (!locked || !loop->enter()) return false;
    if (loop->driver() || loop->is_default() || loop->running())
        return py::raise(PyExc_RuntimeError, "an event loop needs a pyev.Loop of its own");
    PyObject* module = PyType_GetModuleByDef(Py_TYPE(object()), ev::State::definition);
    if (!module) return false;
    if (!state_) {
        state_ = State::of(module);
        state_->acquire();
    }
    if (!state_->prepare(module)) return false;
    audience = reinterpret_cast<PyTypeObject*>(state_->waiters.audience.get());
    if (!find_clock()) return false;
    loop_ = Ref::borrow(slots[0]);
    loop->set_driver(this);
    return true;
}

// Of its class: that may have a clock of its own.
bool LoopBase::find_clock() {
    auto* type = reinterpret_cast<PyObject*>(Py_TYPE(object()));
    bool same = true;
    for (const char* name : {"time", "call_at"}) {
        // Only names that are interned are in CPython's cache of what classes have.
        Ref key = Ref::steal(PyUnicode_InternFromString(name));
        if (!key) return false;
        Ref own = Ref::steal(PyObject_GetAttr(state_->loop_base.get(), key.get()));
        Ref used = Ref::steal(PyObject_GetAttr(type, key.get()));
        if (!own || !used) return false;
        same = same && own.get() == used.get();
    }
    own_clock_ = same;
    return true;
}

// Whether somebody has set an attribute on this very object, not on its class.
static bool has_own(PyObject* object, const char* name) {
    Ref attributes = Ref::steal(PyObject_GenericGetDict(object, nullptr));
    if (!attributes) return PyErr_Clear(), false;
    return PyDict_GetItemString(attributes.get(), name) != nullptr;
}

bool LoopBase::alive() {
    if (loop_) return true;
    return py::raise(PyExc_RuntimeError, "EventLoop.__init__() was not called");
}

Ref LoopBase::repr() {
    return Ref::steal(PyUnicode_FromFormat("<%s at %p>", Py_TYPE(object())->tp_name, object()));
}

// Whoever sets `time` on a loop (tests do) moves its timers, and a `call_at` hears of them all. The
// others are asyncio's own.
int LoopBase::set_attribute(PyObject* self, PyObject* name, PyObject* value) {
    if (PyObject_GenericSetAttr(self, name, value) < 0) return -1;
    auto* loop = py::value_of<LoopBase>(self);
    auto is = [&](std::string_view known) {
        return PyUnicode_GET_LENGTH(name) == static_cast<Py_ssize_t>(known.size()) &&
               PyUnicode_CompareWithASCIIString(name, known.data()) == 0;
    };
    if (is("time") || is("call_at")) {
        loop->own_clock_ = false;
        bool left = value || has_own(self, "time") || has_own(self, "call_at");
        if (!left && loop->state_ && !loop->find_clock()) return -1;
    }
    if (is("_task_factory")) loop->task_factory_ = value != Py_None;
    if (is("_thread_id")) loop->has_thread_ = value && value != Py_None;
    return 0;
}

PyType_Slot LoopBase::extra_slots[] = {
    {Py_tp_setattro, reinterpret_cast<void*>(set_attribute)},
    {0, nullptr},
};

bool LoopBase::now(double& result) {
    if (own_clock_) {
        result = py::monotonic();
        return true;
    }
    Ref time = Ref::steal(PyObject_CallMethod(object(), "time", nullptr));
    return time && py::to_double(time.get(), result);
}

// Scheduling.

// The first parameter of add_reader and add_writer, which take no context, and of asyncio's hooks
// below them, which do: told apart by their addresses.
static constexpr char kDescriptor[] = "fd", kHookDescriptor[] = "fd";

// `function([first, ]callback, *args, context=None)`, quickly where nothing is by keyword.
bool LoopBase::parse(const char* function, const char* first, py::Args args, Call& call) {
    Py_ssize_t lead = first ? 2 : 1;
    Py_ssize_t next = 0;
    if (first && next < args.count) call.first = args.values[next++];
    if (next < args.count) call.callback = args.values[next++];
    Py_ssize_t keywords = args.names ? PyTuple_GET_SIZE(args.names) : 0;
    // As asyncio's tasks call, with one and the same tuple.
    bool known = keywords && !first && args.names == state_->context_alone;
    if (known) call.context = args.values[args.count];
    for (Py_ssize_t i = known; i < keywords; ++i) {
        PyObject* name = PyTuple_GET_ITEM(args.names, i);
        PyObject* value = args.values[args.count + i];
        PyObject** target = nullptr;
        if (first != kDescriptor && PyUnicode_CompareWithASCIIString(name, "context") == 0)
            target = &call.context;
        if (PyUnicode_CompareWithASCIIString(name, "callback") == 0) target = &call.callback;
        if (first && PyUnicode_CompareWithASCIIString(name, first) == 0) target = &call.first;
        if (!target)
            return py::raise(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                             function, name);
        if (*target)
            return py::raise(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                             function, name);
        *target = value;
        if (keywords == 1 && target == &call.context) state_->note_context_alone(args.names);
    }
    if ((first && !call.first) || !call.callback)
        return py::raise(PyExc_TypeError, "%s() missing required argument '%s'", function,
                         first && !call.first ? first : "callback");
    if (call.context == Py_None) call.context = nullptr;
    if (args.count > lead) call.values = {args.values + lead, args.count - lead};
    return true;
}

// A closed loop, and in debug mode a wrong thread and what cannot be called.
bool LoopBase::check(const char* function, PyObject* callback, bool thread) {
    if (closed_) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    if (!debug_) return true;
    if (thread && !Ref::steal(PyObject_CallMethod(object(), "_check_thread", nullptr)))
        return false;
    return static_cast<bool>(
        Ref::steal(PyObject_CallMethod(object(), "_check_callback", "Os", callback, function)));
}

// In debug mode a handle knows where it was made.
bool LoopBase::traced(PyObject* handle) {
    if (!debug_) return true;
    Ref traceback = Ref::steal(PyObject_CallMethod(object(), "_source_traceback", nullptr));
    if (!traceback) return false;
    handles().set_source_traceback(handle, traceback.get());
    return true;
}

Ref LoopBase::soon(const char* function, py::Args args, bool any_thread) {
    Call call;
    if (!parse(function, nullptr, args, call) || !check(function, call.callback, !any_thread))
        return {};
    auto make = any_thread ? &HandleTypes::make_thread_safe : &HandleTypes::make;
    Ref handle = (handles().*make)(object(), call.callback, call.values, call.context);
    if (!handle || !traced(handle.get()) || !ready_.push(handle.get())) return {};
    track(handle.get());
    return handle;
}

bool LoopBase::soon(PyObject* callback, PyObject* args, PyObject* context) {
    if (closed_) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    Values values = {reinterpret_cast<PyTupleObject*>(args)->ob_item, PyTuple_GET_SIZE(args)};
    Ref handle = handles().make(object(), callback, values, context);
    if (!handle || !traced(handle.get()) || !ready_.push(handle.get())) return false;
    track(handle.get());
    return true;
}

bool LoopBase::push(Runnable* runnable, unsigned what) {
    if (closed_) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    return ready_.push(py::object_of(runnable), what);
}

char* LoopBase::read_buffer() {
    if (!read_buffer_) read_buffer_ = static_cast<char*>(PyMem_RawMalloc(kReadSize));
    if (!read_buffer_) PyErr_NoMemory();
    return read_buffer_;
}

Ref LoopBase::call_soon(py::Args args) { return soon("call_soon", args, false); }

// The loop runs its ready ring by itself, so what other threads bring is left where it looks each
// turn. The thread that runs it, and any while nobody does, keep the order of all their calls.
Ref LoopBase::soon_from_outside(py::Args args) {
    constexpr const char* name = "call_soon_threadsafe";
    Call call;
    if (!parse(name, nullptr, args, call) || !check(name, call.callback, false)) return {};
    Ref handle = handles().make_thread_safe(object(), call.callback, call.values, call.context);
    if (!handle || !traced(handle.get())) return {};
    for (bool left = false; !left;) {
        if (!elsewhere()) {
            py::Locked locked(this, true);
            if (elsewhere()) continue;
            if (closed_) return py::raise(PyExc_RuntimeError, "Event loop is closed");
            if (polling_ && !loop()->can_wake()) return {};
            if (!ready_.push(handle.get())) return {};
            if (polling_) loop()->wake();
            break;
        }
        if (!loop()->can_wake()) return {};
        bool room = true;
        left = loop()->post([&] {
            if (!elsewhere()) return false;
            room = inbox_.push(handle.get());
            if (room) handle.new_ref();
            return true;
        });
        if (!room) return {};
    }
    return handle;
}

// Behind the gate.
bool LoopBase::empty_inbox() {
    if (!ready_.reserve(inbox_.size())) return false;
    for (PyObject* handle : inbox_) ready_.push_reserved(handle);
    inbox_.clear();
    return true;
}

bool LoopBase::take_posted() {
    if (py::kHasGil) return true;
    bool room = true;
    loop()->take_posted([&] { return room = empty_inbox(); });
    return room;
}

Ref LoopBase::call_soon_threadsafe(py::Args args) {
    if (!py::kHasGil) return soon_from_outside(args);
    if (ends_poll() && !loop()->can_wake()) return {};
    Ref handle = soon("call_soon_threadsafe", args, true);
    if (handle) end_poll();
    return handle;
}

Ref LoopBase::schedule(PyObject* when, double time, Call& call) {
    if (std::isnan(time)) return py::raise(PyExc_ValueError, "a timer's time cannot be NaN");
    Ref handle =
        handles().make_timer(object(), when, time, call.callback, call.values, call.context);
    if (!handle || !traced(handle.get())) return {};
    // Many more would take long to go through when the loop stops.
    if (!running_ || timers_.size() > kMostUntracked) HandleTypes::track(handle.get());
    if (!timers_.push(handles(), handle.get())) return {};
    return handle;
}

// As asyncio's call_later() does, which always names a context. Inlined, it would cost those who
// never come here.
[[gnu::noinline]] static Ref call_at_by_name(PyObject* loop, double when, PyObject* callback,
                                             Values values, PyObject* context) {
    Ref method = Ref::steal(PyObject_GetAttrString(loop, "call_at"));
    Ref time = Ref::steal(PyFloat_FromDouble(when));
    Ref args = Ref::steal(PyTuple_New(2 + values.count));
    Ref names = Ref::steal(Py_BuildValue("{sO}", "context", context ? context : Py_None));
    if (!method || !time || !args || !names) return {};
    PyTuple_SET_ITEM(args.get(), 0, time.release());
    PyTuple_SET_ITEM(args.get(), 1, Py_NewRef(callback));
    for (Py_ssize_t i = 0; i < values.count; ++i)
        PyTuple_SET_ITEM(args.get(), 2 + i, Py_NewRef(values.items[i]));
    return Ref::steal(PyObject_Call(method.get(), args.get(), names.get()));
}

Ref LoopBase::call_later(py::Args args) {
    Call call;
    double delay, start;
    if (!parse("call_later", "delay", args, call)) return {};
    if (call.first == Py_None) return py::raise(PyExc_TypeError, "delay must not be None");
    if (!py::to_double(call.first, delay) || !check("call_at", call.callback, true)) return {};
    if (own_clock_) return schedule(nullptr, py::monotonic() + delay, call);
    if (!now(start)) return {};
    return call_at_by_name(object(), start + delay, call.callback, call.values, call.context);
}

Ref LoopBase::call_at(py::Args args) {
    Call call;
    double time;
    if (!parse("call_at", "when", args, call)) return {};
    if (call.first == Py_None) return py::raise(PyExc_TypeError, "when cannot be None");
    if (!py::to_double(call.first, time) || !check("call_at", call.callback, true)) return {};
    return schedule(PyFloat_CheckExact(call.first) ? nullptr : call.first, time, call);
}

Ref LoopBase::time() { return Ref::steal(PyFloat_FromDouble(py::monotonic())); }

// For handles that asyncio's own code has made.
Ref LoopBase::add_callback(PyObject* handle) {
    if (!handles().is_handle(handle))
        return py::raise(PyExc_TypeError, "an asyncio.Handle is required, not '%.200s'",
                         Py_TYPE(handle)->tp_name);
    if (!handles().cancelled(handle) && !ready_.push(handle)) return {};
    end_poll();
    return Ref::none();
}

bool LoopBase::push_event(Runnable* runnable, unsigned what) {
    if (polling_) ready_.begin_event();
    bool pushed = push(runnable, what);
    ready_.end_event();
    return pushed;
}

// A handle is to run; an operation wakes whoever waits for it.
void LoopBase::push_event(PyObject* object) {
    if (polling_) ready_.begin_event();
    if (Py_IS_TYPE(object, reinterpret_cast<PyTypeObject*>(sockets().operation.get())))
        py::value_of<Operation>(object)->wake();
    else if (handles().cancelled(object))
        return ready_.end_event(), readers_.forget(object);
    else if (!ready_.push(object))
        PyErr_WriteUnraisable(this->object());
    ready_.end_event();
}

// Tasks.

// Null: an exception is set.
PyObject* LoopBase::loop_argument() {
    if (!loop_argument_) {
        Ref argument = Ref::steal(PyDict_New());
        if (!argument || PyDict_SetItemString(argument.get(), "loop", object()) < 0) return nullptr;
        loop_argument_ = argument;
    }
    return loop_argument_.get();
}

// In debug mode or with a factory it is asyncio's.
Ref LoopBase::create_task(py::Args args) {
    const Tasks& tasks = state_->tasks;
    if (!closed_ && !debug_ && !task_factory_ && tasks.plain_arguments(args) &&
        tasks.plain_task()) {
        PyObject* loop = loop_argument();
        return loop ? tasks.make_task(args, loop) : Ref();
    }
    return py::call_with_self(tasks.base_create_task.get(), object(), args);
}

Ref LoopBase::create_future() {
    const Tasks& tasks = state_->tasks;
    if (closed_ || debug_ || !tasks.plain_future())
        return py::call(tasks.base_create_future.get(), object());
    PyObject* loop = loop_argument();
    return loop ? tasks.make_future(loop) : Ref();
}

// Running.

bool LoopBase::run_handle(Ref handle) {
    if (!debug_) {
        HandleTypes::Content content(handles(), handle);
        if (content) {
            if (content.cancelled() || content.run()) return true;
            if (py::ends_program()) return false;
            Ref error = Ref::steal(py::take_raised());
            Ref again = content.as_handle();
            return again && report_handle(again.get(), error.get());
        }
    }
    bool done = run_kept(handle.get());
    if (Py_REFCNT(handle.get()) > 1) HandleTypes::track(handle.get());
    return done;
}

// Somebody else has a reference to it, or has set its attributes.
bool LoopBase::run_kept(PyObject* handle) {
    if (handles().cancelled(handle)) return true;
    if (debug_)
        return static_cast<bool>(
            Ref::steal(PyObject_CallMethod(object(), "_run_in_debug", "O", handle)));
    if (!handles().is_thread_safe(handle)) return run_callback(handle);
    Current::Run run(current_, handle);
    return run_callback(handle);
}

bool LoopBase::run_callback(PyObject* handle) {
    if (handles().run(handle)) return true;
    if (py::ends_program()) return false;
    Ref error = Ref::steal(py::take_raised());
    return report_handle(handle, error.get());
}

bool LoopBase::report_handle(PyObject* handle, PyObject* error) {
    py::Handling handling(error);
    return static_cast<bool>(
        Ref::steal(PyObject_CallMethod(object(), "_report_handle", "OO", handle, error)));
}

bool LoopBase::run_transport(PyObject* transport, unsigned what) {
    auto* runnable = py::value_of<Runnable>(transport);
    if (!debug_) return runnable->table->run(runnable, what);
    double start, end;
    if (!now(start) || !runnable->table->run(runnable, what) || !now(end)) return false;
    return static_cast<bool>(
        Ref::steal(PyObject_CallMethod(object(), "_note_duration", "Od", transport, end - start)));
}

// What was written in this turn leaves.
bool LoopBase::flush() {
    while (transports_.to_flush()) {
        Ref transport = transports_.next_to_flush();
        auto* runnable = py::value_of<Runnable>(transport.get());
        if (!runnable->table->flush(runnable)) return false;
    }
    return true;
}

// All that there is, also what is more than a turn may send. Whoever is to be told that it has
// written much, or little, is told at the turn's end.
bool LoopBase::send_before_fork() {
    py::Array<PyObject*> flushed;
    Ref error;
    auto note = [&error](bool sent) {
        Ref raised = sent ? Ref() : Ref::steal(py::take_raised());
        if (!error) error = std::move(raised);
    };
    forking_ = true;
    while (transports_.to_flush()) {
        Ref transport = transports_.next_to_flush();
        auto* runnable = py::value_of<Runnable>(transport.get());
        note(runnable->table->flush(runnable));
        if (flushed.push(transport.get()))
            transport.release();
        else
            PyErr_Clear();
    }
    transports_.each([&note](Runnable* runnable) { note(runnable->table->send_all(runnable)); });
    forking_ = false;
    for (PyObject* transport : flushed) {
        Ref owned = Ref::steal(transport);
        transports_.flush_later(py::value_of<Runnable>(transport));
    }
    if (error) py::put_raised(error.release());
    return !error;
}

bool LoopBase::collect_due() {
    if (timers_.bound() == kNever) return true;
    double time;
    if (!now(time)) return false;
    time += 1e-9;  // the clock's resolution, as asyncio has it
    if (timers_.bound() >= time) return true;
    if (!timers_.collect(handles(), time) || !ready_.reserve(timers_.due())) return false;
    timers_.release_due([this](PyObject* handle) { ready_.push_reserved(handle); });
    return true;
}

void LoopBase::disarm() {
    if (ev_is_active(&timer_)) ev_timer_stop(loop()->ev(), &timer_);
}

bool LoopBase::poll_events(bool block) {
    since_poll_ = 0;
    double time = 0;
    if (block && timers_.bound() != kNever) {
        if (!now(time)) return false;
        block = timers_.bound() > time;
    }
    double when = timers_.bound();
    if (block && when != kNever && (!ev_is_active(&timer_) || armed_ != when || !own_clock_)) {
        disarm();
        ev_now_update(loop()->ev());
        ev_timer_set(&timer_, std::min(when - time, kLongestWait), 0.);
        ev_timer_start(loop()->ev(), &timer_);
        armed_ = when;
    }
    polling_ = true;
    ready_.begin_events();
    bool done = loop()->run(block ? EVRUN_ONCE : EVRUN_NOWAIT);
    ready_.order_events();
    polling_ = false;
    polled_at_ = py::coarse_milliseconds();
    return done;
}

bool LoopBase::turn() {
    ++turn_number_;
    if (!take_posted()) return false;
    bool busy = stopping_ || !ready_.empty();
    if (poll_ || !busy || stopping_ || since_poll_ >= kBurst ||
        py::coarse_milliseconds() - polled_at_ > kLongBurst) {
        poll_ = false;
        if (!poll_events(!busy) || !take_posted()) return false;
    }
    if (!collect_due()) return false;
    size_t count = ready_.size();
    since_poll_ += static_cast<unsigned>(count);
    for (; count && !ready_.empty(); --count) {
        if (count > kAhead) ready_.prefetch(kAhead);
        unsigned what;
        Ref object = ready_.pop(what);
        if (!(what ? run_transport(object.get(), what) : run_handle(std::move(object))))
            return false;
    }
    return flush();
}

void LoopBase::put_aside(PyObject* source) {
    if (running_ && py::ends_program()) {
        Ref error = Ref::steal(py::take_raised());
        Ref leave = Ref::steal(PyObject_GetAttrString(object(), "_leave_by"));
        Ref args = Ref::steal(PyTuple_Pack(1, error.get()));
        if (leave && args && soon(leave.get(), args.get(), nullptr)) return;
    }
    PyErr_WriteUnraisable(source);
}

// Of two threads that begin at once, the later has put its number in the place of the other's.
Ref LoopBase::refuse_run() {
    if (elsewhere()) {
        Ref thread = Ref::steal(PyLong_FromUnsignedLong(thread_));
        if (!thread || PyObject_SetAttrString(object(), "_thread_id", thread.get()) < 0) return {};
    }
    return py::raise(PyExc_RuntimeError, "This event loop is already running");
}

Ref LoopBase::run() {
    if (closed_) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    if (running_) return refuse_run();
    if (!loop()->enter()) return {};
    Ref keep = Ref::borrow(object());
    bool done = false;
    running_ = poll_ = true;
    thread_ = py::this_thread();
    ev_ref(loop()->ev());  // watchers do not decide when it ends
    {
        ev::Loop::Claim claim(loop());
        ev::Loop::Session session(loop());
        while (turn())
            if ((done = stopping_)) break;
    }
    disarm();
    ev_unref(loop()->ev());
    timers_.track();
    ready_.each_handle(HandleTypes::track);
    leave_turns();
    if (done) return Ref::none();
    py::ErrorGuard guard;
    if (!flush()) PyErr_WriteUnraisable(object());
    return {};
}

// From here on what other threads bring goes into the ring, behind what they have left.
void LoopBase::leave_turns() {
    py::ErrorGuard guard;  // of what ends the run
    py::Hold hold(loop()->gate());
    if (!py::kHasGil && !empty_inbox()) PyErr_Clear();
    stopping_ = false;
    running_ = false;
    thread_ = 0;
}

Ref LoopBase::stop() {
    stopping_ = true;
    return Ref::none();
}

Ref LoopBase::wake() {
    py::Hold hold(loop()->gate());
    if (running_) loop()->wake();
    return Ref::none();
}

void LoopBase::shut() {
    if (!loop_ || closed_) return;
    closed_ = true;
    readers_.clear();
    transports_.detach_all();
    disarm();
    dismiss_all(loop());
    loop()->set_driver(nullptr);
    timers_.clear();
    ready_.clear();
    while (!inbox_.empty()) {
        Ref handle = Ref::steal(inbox_[inbox_.size() - 1]);
        inbox_.remove_last();
    }
    loop_argument_ = Ref();
}

Ref LoopBase::close() {
    if (closed_) return Ref::none();
    if (running_) return py::raise(PyExc_RuntimeError, "Cannot close a running event loop");
    if (!loop()->enter()) return {};
    end_all(loop());
    shut();
    return loop()->close();
}

// A watcher's callback raised; the error is set.
void LoopBase::report(Driver* driver, PyObject* source) {
    auto* self = static_cast<LoopBase*>(driver);
    Ref error = Ref::steal(py::take_raised());
    py::Handling handling(error.get());
    Ref done = Ref::steal(
        PyObject_CallMethod(self->object(), "_report_watcher", "OO", source, error.get()));
    if (!done) self->loop()->fail();
}

void LoopBase::stop_driver(Driver* driver) { static_cast<LoopBase*>(driver)->stopping_ = true; }

bool LoopBase::signalled(Driver* driver, int signum) {
    auto* self = static_cast<LoopBase*>(driver);
    return static_cast<bool>(
        Ref::steal(PyObject_CallMethod(self->object(), "_signalled_elsewhere", "i", signum)));
}

bool LoopBase::wake_operation(PyObject* handle, int refused) {
    if (handles().is_handle(handle)) return false;
    if (refused) py::value_of<Operation>(handle)->refuse(refused);
    push_event(handle);
    return true;
}

bool LoopBase::busy(Driver* driver) {
    auto* self = of(driver);
    if (self->stopping_ || !self->ready_.empty() || self->loop()->posted() ||
        self->transports_.to_flush())
        return true;
    double when = self->timers_.bound();
    return when != kNever && (!ev_is_active(&self->timer_) || when < self->armed_);
}

void LoopBase::report_unwatched(PyObject* handle, int fd, int refused) {
    if (wake_operation(handle, refused)) return;
    Ref done =
        Ref::steal(PyObject_CallMethod(object(), "_report_unwatched", "Oii", handle, fd, refused));
    if (!done) loop()->fail();
}

// Descriptors.

// What no descriptor can be had of is a ValueError in asyncio.
static bool descriptor(PyObject* object, int& fd) {
    if (py::to_fd(object, fd)) return true;
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) return false;
    PyErr_Clear();
    return py::raise(PyExc_ValueError, "Invalid file object: %R", object);
}

bool LoopBase::no_transport(PyObject* file, int fd) {
    if (!asyncio_transports_) {
        // A WeakValueDictionary; what it keeps its values in is asked far quicker.
        Ref all = Ref::steal(PyObject_GetAttrString(object(), "_transports"));
        if (all) asyncio_transports_ = Ref::steal(PyObject_GetAttrString(all.get(), "data"));
        if (!asyncio_transports_) return false;
    }
    int found = transports_.of(fd) != nullptr;
    if (!found && PyDict_GET_SIZE(asyncio_transports_.get()) != 0) {
        Ref number = Ref::steal(PyLong_FromLong(fd));
        found = number ? PyDict_Contains(asyncio_transports_.get(), number.get()) : -1;
    }
    if (found <= 0) return found == 0;
    return static_cast<bool>(
        Ref::steal(PyObject_CallMethod(object(), "_ensure_fd_no_transport", "O", file)));
}

// A handle that is watched no more. An operation it is replaced in waits until it is cancelled.
bool LoopBase::drop(const Ref& handle) {
    if (!handle || !handles().is_handle(handle.get())) return true;
    return static_cast<bool>(handles().call_cancel(handle.get()));
}

Ref LoopBase::add(py::Args args, int events, const char* function, bool checked) {
    Call call;
    int fd;
    if (!parse(function, checked ? kDescriptor : kHookDescriptor, args, call)) return {};
    if (checked && (!descriptor(call.first, fd) || !no_transport(call.first, fd))) return {};
    if (closed_) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    if ((!checked && !descriptor(call.first, fd)) || !loop()->alive()) return {};
    Ref handle = handles().make(object(), call.callback, call.values, call.context), replaced;
    if (!handle || !traced(handle.get())) return {};
    HandleTypes::track(handle.get());
    if (closed_) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    if (!readers_.set(fd, events, handle.get(), replaced, checked)) return {};
    readers_.note_file(fd, events, call.first);
    if (!drop(replaced)) return {};
    return checked ? Ref::none() : handle;
}

Ref LoopBase::remove(PyObject* object, int events, bool checked) {
    int fd;
    if (closed_ && !checked) return Ref::borrow(Py_False);
    if (!descriptor(object, fd)) {
        fd = readers_.number_of(object, events);
        // A number that is too large for a descriptor is not watched.
        if (fd < 0 && !PyErr_ExceptionMatches(PyExc_OverflowError)) return {};
        PyErr_Clear();
        if (fd < 0) return Ref::borrow(Py_False);
    } else if (checked && !no_transport(object, fd)) {
        return {};
    }
    if (closed_) return Ref::borrow(Py_False);
    if (!loop()->alive()) return {};
    Ref handle = readers_.take(fd, events);
    if (!drop(handle)) return {};
    return Ref::borrow(handle ? Py_True : Py_False);
}

bool LoopBase::watch_operation(PyObject* socket, int fd, int events, PyObject* operation,
                               bool open) {
    Ref replaced;
    if (!no_transport(socket, fd)) return false;
    if (closed_) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    return loop()->alive() && readers_.set(fd, events, operation, replaced, true, open) &&
           drop(replaced);
}

Ref LoopBase::getaddrinfo(py::Args args) {
    if (!debug_ && !closed_)
        if (Ref found = names_.look_up(sockets(), args))
            return Operation::make_done(this, kGetaddrinfo, found);
    Ref ask = Ref::steal(PyObject_GetAttrString(object(), "_getaddrinfo"));
    if (!ask) return {};
    return Ref::steal(
        PyObject_Vectorcall(ask.get(), args.values, static_cast<size_t>(args.count), args.names));
}

Ref LoopBase::watching(PyObject* object) {
    int fd;
    if (!py::to_fd(object, fd)) return {};
    return Ref::steal(PyLong_FromLong(closed_ ? 0 : readers_.watching(fd)));
}

Ref LoopBase::transport_of(PyObject* object) {
    int fd;
    if (!py::to_int(object, fd)) return {};
    PyObject* transport = transports_.of(fd);
    bool used = transport && !py::value_of<Runnable>(transport)->lends;
    return used ? Ref::borrow(transport) : Ref::none();
}

// Signals.

Ref LoopBase::exchange_handler(py::Args args) {
    static constexpr const char* kNames[] = {"signum", "handler"};
    static constexpr py::Parameters kParameters = {"_exchange_handler", kNames, 2, 2, 2};
    PyObject* slots[2] = {};
    int signum;
    if (!py::bind(kParameters, args, slots) || !ev::to_signal(slots[0], signum)) return {};
    return ev::exchange_python_handler(signum, slots[1]);
}

Ref LoopBase::keep_signals(PyObject* object) {
    bool kept;
    if (!py::to_bool(object, kept) || !loop()->keep_signals(kept)) return {};
    return Ref::none();
}

Ref LoopBase::is_running() { return Ref::steal(PyBool_FromLong(has_thread_)); }

Ref LoopBase::get_debug() { return Ref::steal(PyBool_FromLong(debug_)); }
bool LoopBase::set_debug(PyObject* debug) { return py::to_bool(debug, debug_); }

Ref LoopBase::get_stopping() { return Ref::steal(PyBool_FromLong(stopping_)); }
bool LoopBase::set_stopping(PyObject* stopping) {
    bool value;
    if (!py::to_bool(stopping, value)) return false;
    stopping_ = value;
    return true;
}

// The handles among what `from` holds, as a list of their own.
template <class From>
static Ref list_handles(HandleTypes& types, From& from) {
    Ref list = Ref::steal(PyList_New(0));
    int failed = !list || from.visit([&](PyObject* object) {
        if (!types.is_handle(object)) return 0;
        HandleTypes::track(object);
        return PyList_Append(list.get(), object);
    });
    return failed ? Ref() : std::move(list);
}

Ref LoopBase::get_ready() { return list_handles(handles(), ready_); }

Ref LoopBase::get_scheduled() {
    Ref list = list_handles(handles(), timers_);
    return list && PyList_Sort(list.get()) == 0 ? std::move(list) : Ref();
}

static PyMethodDef methods[] = {
    py::fast<&LoopBase::call_soon>("call_soon",
                                   R"(call_soon($self, /, callback, *args, context=None)
--

Call callback(*args) in the next turn, in the order of the calls, and return its Handle.

context: the contextvars.Context to run it in; a copy of the current one by default.
Raises RuntimeError when the loop is closed. asyncio: loop.call_soon.)"),
    py::fast<&LoopBase::call_soon_threadsafe, py::Guard::kAlive>(
        "call_soon_threadsafe", R"(call_soon_threadsafe($self, /, callback, *args, context=None)
--

Like call_soon(), from any thread: a loop that waits is woken up.

Raises RuntimeError when the loop is closed. asyncio: loop.call_soon_threadsafe.)"),
    py::fast<&LoopBase::call_later>("call_later",
                                    R"(call_later($self, /, delay, callback, *args, context=None)
--

Call callback(*args) after `delay` seconds from now, and return its TimerHandle.

Cancelled, it gives back its memory at once. Raises ValueError for NaN, TypeError for what is no
number, RuntimeError when the loop is closed. asyncio: loop.call_later.)"),
    py::fast<&LoopBase::call_at>("call_at",
                                 R"(call_at($self, /, when, callback, *args, context=None)
--

Call callback(*args) when time() has reached `when`, in seconds, and return its TimerHandle.

Raises as call_later() does. asyncio: loop.call_at.)"),
    py::fast<&LoopBase::create_task>("create_task", R"(create_task($self, coro, /, **kwargs)
--

Make an asyncio.Task of a coroutine and schedule it. asyncio: loop.create_task.

Raises TypeError for what is no coroutine, RuntimeError when the loop is closed.)"),
    py::noargs<&LoopBase::create_future>("create_future", R"(create_future($self, /)
--

Make an asyncio.Future that belongs to this loop. asyncio: loop.create_future.)"),
    // Each eager task asks.
    py::noargs<&LoopBase::is_running, py::Guard::kAny>("is_running", R"(is_running($self, /)
--

Whether a thread is in run_forever() or run_until_complete(). asyncio: loop.is_running.)"),
    py::noargs<&LoopBase::get_debug, py::Guard::kAlive>("get_debug", R"(get_debug($self, /)
--

Whether debug mode is on. asyncio: loop.get_debug.)"),
    py::noargs<&LoopBase::time, py::Guard::kAlive>("time", R"(time($self, /)
--

The monotonic clock, in seconds. asyncio: loop.time.)"),
    py::noargs<&LoopBase::stop, py::Guard::kAlive>("stop", R"(stop($self, /)
--

Make run_forever() return at the end of the turn. asyncio: loop.stop.)"),
    py::noargs<&LoopBase::run>("_run", "_run($self, /)\n--\n\nTurns until stop()."),
    py::noargs<&LoopBase::close>("_close", "_close($self, /)\n--\n\nDrop all, and close `ev`."),
    py::noargs<&LoopBase::wake, py::Guard::kAlive>("_write_to_self",
                                                   "_write_to_self($self, /)\n--\n\nEnd a poll."),
    py::onearg<&LoopBase::add_callback>(
        "_add_callback", "_add_callback($self, handle, /)\n--\n\nQueue an asyncio.Handle."),
    py::onearg<&LoopBase::add_callback>(
        "_add_callback_signalsafe",
        "_add_callback_signalsafe($self, handle, /)\n--\n\nQueue an asyncio.Handle."),
    py::fast<&LoopBase::add_reader>("add_reader", R"(add_reader($self, fd, callback, /, *args)
--

Call callback(*args) in each turn in which fd is readable. asyncio: loop.add_reader.

Raises OSError (EBADF) when fd is not open, PermissionError for what epoll cannot wait for (a regular
file), ValueError when it is no descriptor, RuntimeError when a transport has it or the loop is closed.)"),
    py::fast<&LoopBase::add_writer>("add_writer", R"(add_writer($self, fd, callback, /, *args)
--

Call callback(*args) in each turn in which fd is writable. asyncio: loop.add_writer.

Raises as add_reader() does.)"),
    py::onearg<&LoopBase::remove_reader>("remove_reader", R"(remove_reader($self, fd, /)
--

Stop watching fd for reading; return whether it was watched. asyncio: loop.remove_reader.)"),
    py::onearg<&LoopBase::remove_writer>("remove_writer", R"(remove_writer($self, fd, /)
--

Stop watching fd for writing; return whether it was watched. asyncio: loop.remove_writer.)"),
    py::fast<&LoopBase::sock<kSockRecv>>("sock_recv", R"(sock_recv($self, /, sock, n)
--

Receive up to n bytes; b"" when the peer has closed. Awaitable. asyncio: loop.sock_recv.)"),
    py::fast<&LoopBase::sock<kSockRecvInto>>("sock_recv_into",
                                             R"(sock_recv_into($self, /, sock, buf)
--

Receive into a buffer, and return how much. Awaitable. asyncio: loop.sock_recv_into.)"),
    py::fast<&LoopBase::sock<kSockRecvfrom>>("sock_recvfrom",
                                             R"(sock_recvfrom($self, /, sock, bufsize)
--

Receive a datagram and where it came from. Awaitable. asyncio: loop.sock_recvfrom.)"),
    py::fast<&LoopBase::sock<kSockRecvfromInto>>(
        "sock_recvfrom_into", R"(sock_recvfrom_into($self, /, sock, buf, nbytes=0)
--

Receive a datagram into a buffer; return how much, and where it came from. Awaitable.

asyncio: loop.sock_recvfrom_into.)"),
    py::fast<&LoopBase::sock<kSockSendall>>("sock_sendall", R"(sock_sendall($self, /, sock, data)
--

Send all of data. Awaitable. asyncio: loop.sock_sendall.)"),
    py::fast<&LoopBase::sock<kSockSendto>>("sock_sendto",
                                           R"(sock_sendto($self, /, sock, data, address)
--

Send a datagram, and return how much of it. Awaitable. asyncio: loop.sock_sendto.)"),
    py::fast<&LoopBase::sock<kSockAccept>>("sock_accept", R"(sock_accept($self, /, sock)
--

Accept a connection: a new socket, which does not block, and its peer's address. Awaitable.

asyncio: loop.sock_accept.)"),
    py::fast<&LoopBase::sock<kSockWait>>(
        "_sock_wait", "_sock_wait($self, /, sock, events)\n--\n\nUntil it is ready. Awaitable."),
    py::fast<&LoopBase::getaddrinfo>(
        "getaddrinfo", R"(getaddrinfo($self, /, host, port, *, family=0, type=0, proto=0, flags=0)
--

Look a host up, as socket.getaddrinfo() does, without blocking: in a thread. Awaitable.

A numeric address needs no looking up, and no thread. Raises socket.gaierror.
asyncio: loop.getaddrinfo.)"),
    py::fast<&LoopBase::add_reader_hook>(
        "_add_reader",
        "_add_reader($self, fd, callback, /, *args, context=None)\n--\n\nasyncio's hook."),
    py::fast<&LoopBase::add_writer_hook>(
        "_add_writer",
        "_add_writer($self, fd, callback, /, *args, context=None)\n--\n\nasyncio's hook."),
    py::onearg<&LoopBase::remove_reader_hook>(
        "_remove_reader", "_remove_reader($self, fd, /)\n--\n\nasyncio's hook."),
    py::onearg<&LoopBase::remove_writer_hook>(
        "_remove_writer", "_remove_writer($self, fd, /)\n--\n\nasyncio's hook."),
    py::onearg<&LoopBase::watching>(
        "_watching", "_watching($self, fd, /)\n--\n\nEV_READ and EV_WRITE, as far as watched."),
    py::onearg<&LoopBase::transport_of>("_transport_of",
                                        "_transport_of($self, fd, /)\n--\n\nWho uses it, or None."),
    py::fast<&LoopBase::exchange_handler>("_exchange_handler",
                                          R"(_exchange_handler($self, signum, handler)
--

signal.signal(), without taking the signal from its watchers.)"),
    py::onearg<&LoopBase::keep_signals>("_keep_signals", R"(_keep_signals($self, kept, /)
--

Whether _signalled_elsewhere() hears of each signal that Python has a handler of.)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&LoopBase::get_ev>(
        "ev", "The pyev.Loop underneath: any watcher on it runs beside any coroutine. Read-only."),
    py::getset<&LoopBase::get_debug, &LoopBase::set_debug>("_debug", "Whether debug mode is on."),
    py::getset<&LoopBase::get_stopping, &LoopBase::set_stopping>(
        "_stopping", "Whether stop() was called: the turn is the last."),
    // asyncio's __init__ makes lists of its own, which nothing would be in.
    py::getset<&LoopBase::get_ready, &LoopBase::ignore>(
        "_ready", "The handles that are to be called, as they are now."),
    py::getset<&LoopBase::get_scheduled, &LoopBase::ignore>(
        "_scheduled", "The handles whose time has not come, the first to come first."),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo LoopBase::kType = {
    "pyev._core.LoopBase",
    "LoopBase(ev)\n--\n\nThe native half of pyev.EventLoop, on the pyev.Loop `ev`.",
    methods,
    getset,
    extra_slots,
};

}  // namespace pyev::aio
