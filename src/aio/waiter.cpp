// Awaited watchers.
#include "aio/waiter.hpp"

#include "aio/loop_base.hpp"
#include "aio/state.hpp"
#include "py/array.hpp"
#include "py/call.hpp"

namespace pyev::aio {

using ev::Watcher;
using py::Ref;

static bool counted(Watcher* watcher) {
    return watcher->kind().unheard == Watcher::Unheard::kCounted;
}

// Whether its events are looked for only while somebody waits: what is ready stays so.
static bool watched_when_waited_for(Watcher* watcher) {
    return watcher->kind().unheard == Watcher::Unheard::kNotWatched;
}

static bool idle(Watcher* watcher) { return !watcher->is_active() && !watcher->is_pending(); }

// Listeners.

void Listener::leave() {
    if (audience_) audience_->leave(this);
    future = Ref();
}

void Audience::join(Listener* listener) {
    listener->audience_ = this;
    listener->previous_ = last_;
    listener->next_ = nullptr;
    (last_ ? last_->next_ : first_) = listener;
    last_ = listener;
    if (!listener->iterates) return;
    listener->backlog = std::exchange(unheard_, {});
    listener->error = std::move(error_);
}

void Audience::leave(Listener* listener) {
    (listener->previous_ ? listener->previous_->next_ : first_) = listener->next_;
    (listener->next_ ? listener->next_->previous_ : last_) = listener->previous_;
    listener->audience_ = nullptr;
}

void Audience::dismiss() {
    while (first_) first_->leave();
}

static Ref resolve(const Waiters& names, PyObject* future) {
    Ref done = Ref::steal(PyObject_CallMethodNoArgs(future, names.done.get()));
    if (!done || done.get() == Py_True) return done;
    return Ref::steal(PyObject_CallMethodOneArg(future, names.set_result.get(), Py_None));
}

// All who wait. Python code may run, so who they are is settled before.
bool Audience::wake(bool all_leave) {
    py::Array<PyObject*> futures;
    for (Listener *listener = first_, *next; listener; listener = next) {
        next = listener->next_;
        if (listener->future && futures.push(listener->future.get())) listener->future.release();
        if (all_leave || (!listener->iterates && !listener->future)) leave(listener);
    }
    State* state = State::of_type(Py_TYPE(py::object_of(this)));
    bool good = state && state->waiters.ready();
    for (PyObject* object : futures) {
        Ref future = Ref::steal(object);
        if (good && !resolve(state->waiters, future.get())) good = false;
    }
    return good;
}

bool Audience::hear(Watcher* watcher, int revents) {
    const bool ignore = watched_when_waited_for(watcher);
    bool heard = !ignore && first_;
    for (Listener* listener = first_; listener; listener = listener->next_) {
        if (ignore && !listener->future) continue;
        listener->backlog.add({1, revents}, counted(watcher));
        heard = true;
    }
    if (heard) return wake(false);
    if (ignore)
        watcher->stop_now();
    else
        unheard_.add({1, revents}, counted(watcher));
    return true;
}

PyObject* Audience::call(PyObject* self, PyObject* const* values, size_t count, PyObject*) {
    ev::State* state = ev::State::of_type(Py_TYPE(self));
    if (!state) return nullptr;
    int revents;
    Watcher* watcher = nullptr;
    if (PyVectorcall_NARGS(count) == 2 && PyObject_TypeCheck(values[0], state->type<Watcher>()))
        watcher = py::value_of<Watcher>(values[0]);
    if (!watcher || !watcher->awaited() || watcher->audience() != self) {
        PyErr_SetString(PyExc_TypeError, "only its watcher calls this");
        return nullptr;
    }
    if (!py::to_int(values[1], revents)) return nullptr;
    if (!py::value_of<Audience>(self)->hear(watcher, revents)) return nullptr;
    return Ref::none().release();
}

bool Audience::end(Ref error, bool keep_error) {
    unheard_ = {};
    error_ = !first_ && keep_error ? error : Ref();
    for (Listener* listener = first_; listener; listener = listener->next_) {
        if (!error) listener->backlog = {};
        listener->error = error;
        listener->over = true;
    }
    return wake(true);
}

Ref Audience::repr() {
    return Ref::steal(PyUnicode_FromFormat("<audience at %p>", py::object_of(this)));
}

// One wait.

Ref Wait::make(Watcher* watcher, PyObject* events) {
    LoopBase* loop = LoopBase::of(watcher->owner()->driver());
    auto* type = reinterpret_cast<PyTypeObject*>(loop->waiters().wait.get());
    Ref self = Ref::steal(py::Slots<Wait>::create(type, nullptr, nullptr));
    if (!self) return {};
    auto* value = py::value_of<Wait>(self.get());
    value->watcher_ = Ref::borrow(watcher->object());
    value->events_ = Ref::borrow(events);
    return self;
}

Wait::Told Wait::told(int& revents) {
    Listener& listener = this->listener();
    if (listener.backlog.take(revents)) return Told::kEvent;
    Ref error = std::move(listener.error);
    Audience* audience = Audience::of(watcher());
    if (!error && !events_ && stage_ == Stage::kNew && audience) {
        if (audience->take(revents)) return Told::kEvent;
        error = audience->take_error();
    }
    if (error)
        py::put_raised(error.release());
    else if (events_ && (listener.over || (idle(watcher()) && !watched_when_waited_for(watcher()))))
        PyErr_SetNone(PyExc_StopAsyncIteration);
    else if (listener.over)
        (void)py::raise(watcher()->owner()->state().error.get(),
                        "%R was stopped while it was awaited", watcher_.get());
    else
        return Told::kNothing;
    return Told::kError;
}

// Python code may run in each step, so what was looked at before is looked at again.
Ref Wait::wait(Told& told, int& revents) {
    if (!watcher()->enter() || !Audience::of(watcher())) {
        if (!PyErr_Occurred())
            (void)py::raise(PyExc_RuntimeError, "%R cannot be awaited any more", watcher_.get());
        return {};
    }
    auto* loop = LoopBase::of(watcher()->owner()->driver());
    const Waiters& names = loop->waiters();
    Ref future = Ref::steal(PyObject_CallMethodNoArgs(loop->object(), names.create_future.get()));
    if (!future || PyObject_SetAttr(future.get(), names.blocking.get(), Py_True) < 0) return {};
    told = this->told(revents);
    if (told != Told::kNothing) return {};
    if (!watcher()->enter() || (idle(watcher()) && !watcher()->activate())) return {};
    Audience* audience = Audience::of(watcher());
    if (!audience || listener().future || listener().over)
        return py::raise(PyExc_RuntimeError, "%R was changed while it was started", watcher_.get());
    if (!events_) audience->join(&own_);
    listener().future = future;
    stage_ = Stage::kWaiting;
    return future;
}

PySendResult Wait::send(PyObject** result) {
    *result = nullptr;
    Ref self = Ref::borrow(py::object_of(this));
    int revents;
    Told told = Told::kError;
    if (stage_ == Stage::kDone)
        (void)py::raise(PyExc_RuntimeError, "cannot reuse what was awaited already");
    else if (events_ && stage_ == Stage::kNew && listener().future)
        (void)py::raise(PyExc_RuntimeError, "another coroutine waits for the same iterator");
    else
        told = this->told(revents);
    if (told == Told::kNothing && stage_ == Stage::kWaiting) {
        (void)py::raise(PyExc_RuntimeError, "await wasn't used with future");
        told = Told::kError;
    }
    if (told == Told::kNothing) {
        told = Told::kError;
        *result = wait(told, revents).release();
        if (*result) return PYGEN_NEXT;
    }
    if (told == Told::kEvent) *result = watcher()->owner()->state().revents(revents).release();
    leave();
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

// What it was told and has not passed on is kept for the next one.
void Wait::leave() {
    if (std::exchange(stage_, Stage::kDone) != Stage::kWaiting) return;
    if (events_) {
        Ref future = std::move(listener().future);
        return;
    }
    Backlog rest = std::exchange(own_.backlog, {});
    Audience* audience = rest.count ? Audience::of(watcher()) : nullptr;
    if (audience && !watched_when_waited_for(watcher())) audience->keep(rest, counted(watcher()));
    own_.leave();
}

Ref Wait::repr() {
    return Ref::steal(PyUnicode_FromFormat("<wait for %R>", watcher_ ? watcher_.get() : Py_None));
}

static PySendResult send_slot(PyObject* self, PyObject*, PyObject** result) {
    auto* value = py::value_of<Wait>(self);
    py::Locked locked(value);
    if (locked) return value->send(result);
    *result = nullptr;
    return PYGEN_ERROR;
}

static PyObject* next_slot(PyObject* self) {
    PyObject* result;
    if (send_slot(self, nullptr, &result) != PYGEN_RETURN) return result;
    PyErr_SetObject(PyExc_StopIteration, Ref::steal(result).get());
    return nullptr;
}

Ref Wait::send_method(PyObject*) { return Ref::steal(next_slot(py::object_of(this))); }

Ref Wait::throw_method(py::Args args) {
    if (args.count < 1 || args.count > 3)
        return py::raise(PyExc_TypeError, "throw() takes 1 to 3 arguments, not %zd", args.count);
    PyObject* type = args.values[0];
    leave();
    if (PyExceptionInstance_Check(type))
        PyErr_SetObject(PyExceptionInstance_Class(type), type);
    else if (PyExceptionClass_Check(type))
        PyErr_SetObject(type, args.count > 1 ? args.values[1] : nullptr);
    else
        return py::raise(PyExc_TypeError, "exceptions must derive from BaseException, not '%.200s'",
                         Py_TYPE(type)->tp_name);
    return {};
}

Ref Wait::close_method() {
    leave();
    return Ref::none();
}

static PyMethodDef wait_methods[] = {
    py::onearg<&Wait::send_method, py::Guard::kNone>("send", "send($self, value, /)\n--\n\nGo on."),
    py::fast<&Wait::throw_method, py::Guard::kNone>(
        "throw", "throw($self, type, value=None, traceback=None, /)\n--\n\nGive up."),
    py::noargs<&Wait::close_method, py::Guard::kNone>("close", "close($self, /)\n--\n\nGive up."),
    {nullptr, nullptr, 0, nullptr},
};

static const PyType_Slot wait_slots[] = {
    {Py_am_await, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_am_send, reinterpret_cast<void*>(send_slot)},
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void*>(next_slot)},
    {0, nullptr},
};

// Iterators.

// Whether its loop is the one that runs here.
static bool runs_here(LoopBase* loop, Watcher* watcher) {
    Ref running = py::call(loop->waiters().running_loop.get());
    if (!running) return false;
    if (running.get() == Py_None) return py::raise(PyExc_RuntimeError, "no running event loop");
    return running.get() == loop->object() ||
           py::raise(PyExc_RuntimeError, "%R belongs to another event loop", watcher->object());
}

static bool may_wait(LoopBase* loop, Watcher* watcher) {
    if (!runs_here(loop, watcher)) return false;
    return watcher->awaited() ||
           py::raise(PyExc_TypeError, "%R cannot be awaited%s", watcher->object(),
                     watcher->kind().awaitable ? ": it has a callback" : "");
}

Ref Events::next() {
    if (!watcher_ || !watcher()->enter()) return {};
    ev::Driver* driver = watcher()->owner()->driver();
    if (!driver)
        return py::raise(PyExc_RuntimeError, "the event loop of %R is gone", watcher_.get());
    if (!runs_here(LoopBase::of(driver), watcher())) return {};
    return Wait::make(watcher(), py::object_of(this));
}

// The way out.
void Events::stop_for_clear() {
    if (!watcher_) return;
    const bool joined = listener_.joined();
    listener_.leave();
    Audience* audience = joined ? Audience::of(watcher()) : nullptr;
    if (!audience || !audience->empty()) return;
    watcher()->stop_now();
    audience->forget();
}

Ref Events::repr() {
    return Ref::steal(PyUnicode_FromFormat("<events of %R>", watcher_ ? watcher_.get() : Py_None));
}

static PyObject* anext_slot(PyObject* self) {
    auto* value = py::value_of<Events>(self);
    py::Locked locked(value);
    return locked ? value->next().release() : nullptr;
}

static const PyType_Slot events_slots[] = {
    {Py_am_aiter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_am_anext, reinterpret_cast<void*>(anext_slot)},
    {0, nullptr},
};

// What a Driver calls.

Ref make_audience(LoopBase* loop) {
    auto* type = reinterpret_cast<PyTypeObject*>(loop->waiters().audience.get());
    if (!type) return py::raise(PyExc_RuntimeError, "the interpreter is about to end");
    return Ref::steal(py::Slots<Audience>::create(type, nullptr, nullptr));
}

Ref await(LoopBase* loop, Watcher* watcher) {
    return may_wait(loop, watcher) ? Wait::make(watcher, nullptr) : Ref();
}

Ref iterate(LoopBase* loop, Watcher* watcher) {
    if (!may_wait(loop, watcher)) return {};
    auto* type = reinterpret_cast<PyTypeObject*>(loop->waiters().events.get());
    Ref self = Ref::steal(py::Slots<Events>::create(type, nullptr, nullptr));
    Audience* audience = Audience::of(watcher);
    if (!self) return {};
    if (!audience)
        return py::raise(PyExc_RuntimeError, "%R cannot be awaited any more", watcher->object());
    auto* events = py::value_of<Events>(self.get());
    events->begin(watcher);
    audience->join(&events->listener());
    const bool told = events->listener().backlog.count || events->listener().error;
    if (!watcher->enter() || (idle(watcher) && !told && !watcher->activate())) return {};
    return self;
}

void end(Watcher* watcher) {
    Ref error = Ref::steal(py::take_raised());
    Audience* audience = Audience::of(watcher);
    if (!audience) return;  // who made the exception's text has given it a callback
    Ref keep = Ref::borrow(py::object_of(audience));
    if (!audience->end(error, !watched_when_waited_for(watcher))) PyErr_WriteUnraisable(keep.get());
}

// Calls body(watcher) for each awaited one. It may run Python code, which may do anything to the
// list; what is being freed is left alone.
template <class F>
static void each_awaited(ev::Loop* loop, F body) {
    Ref last;  // its end may be that of the next one
    for (Watcher* watcher = loop->watchers(); watcher && watcher->owner() == loop;) {
        Ref keep = py::try_ref(watcher->object());
        if (keep && watcher->awaited()) body(watcher);
        if (keep) last = std::move(keep);
        watcher = watcher->next();
    }
}

void end_all(ev::Loop* loop) {
    each_awaited(loop, [loop](Watcher* watcher) {
        watcher->stop_now();
        (void)py::raise(loop->state().error.get(), "%R was awaited when its loop was closed",
                        watcher->object());
        end(watcher);
    });
}

void dismiss_all(ev::Loop* loop) {
    each_awaited(loop, [](Watcher* watcher) { watcher->drop_audience(); });
}

// The types.

const py::TypeInfo Audience::kType = {"pyev._core.Audience", "Those who listen to a watcher.",
                                      nullptr, nullptr};
const py::TypeInfo Events::kType = {"pyev._core.Events", "The events of a watcher, one by one.",
                                    nullptr, nullptr, events_slots};
const py::TypeInfo Wait::kType = {"pyev._core.Wait", "A wait for a watcher's next event.",
                                  wait_methods, nullptr, wait_slots};

bool Waiters::init(PyObject* module) {
    Ref asyncio = Ref::steal(PyImport_ImportModule("asyncio.events"));
    if (!asyncio) return false;
    running_loop = Ref::steal(PyObject_GetAttrString(asyncio.get(), "_get_running_loop"));
    audience = py::make_type<Audience, true>(module);
    events = py::make_type<Events, true>(module);
    wait = py::make_type<Wait, true>(module);
    create_future = Ref::steal(PyUnicode_InternFromString("create_future"));
    set_result = Ref::steal(PyUnicode_InternFromString("set_result"));
    done = Ref::steal(PyUnicode_InternFromString("done"));
    if (!running_loop || !audience || !events || !wait || !create_future || !set_result || !done)
        return false;
    blocking = Ref::steal(PyUnicode_InternFromString("_asyncio_future_blocking"));
    return ready();
}

}  // namespace pyev::aio
