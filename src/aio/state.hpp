// What the aio layer keeps per interpreter. Filled when the first event loop is made, so that
// importing pyev does not import asyncio.
#pragma once

#include <Python.h>

#include "aio/handle.hpp"
#include "aio/sock.hpp"
#include "aio/tasks.hpp"
#include "aio/waiter.hpp"
#include "py/coroutine.hpp"
#include "py/lock.hpp"
#include "py/ref.hpp"

namespace pyev::aio {

class State {
 public:
    State() = default;
    State(const State&) = delete;
    virtual ~State() = default;

    HandleTypes handles;
    Sockets sockets;
    Waiters waiters;
    Tasks tasks;
    py::Ref loop_base;  // the type
    // Names of keywords that were found to be ("context",): `alone_`, or null.
    py::Atomic<PyObject*> context_alone = nullptr;
    py::Stop stop;

    // Without a GIL only once: others may be comparing.
    void note_context_alone(PyObject* names) {
        py::Hold hold(mutex_);
        if (!py::kHasGil && context_alone) return;
        alone_ = py::Ref::borrow(names);
        context_alone = names;
    }

    // Makes what an event loop needs, once. The layer above adds to it.
    [[nodiscard]] virtual bool prepare(PyObject* module) {
        return (handles.ready() || handles.init(module)) && (sockets.ready() || sockets.init()) &&
               (waiters.ready() || waiters.init(module)) && (tasks.ready() || tasks.init());
    }

    // The module keeps two pointers: ev's state, then this, as the layer above has extended it.
    static State* of(PyObject* module) {
        return static_cast<State**>(PyModule_GetState(module))[1];
    }
    // Of one of the module's own types; null and an exception when that has been torn down.
    static State* of_type(PyTypeObject* type) {
        PyObject* module = PyType_GetModule(type);
        return module ? of(module) : nullptr;
    }

    template <class F>
    void each_ref(F f) {
        handles.each_ref(f);
        sockets.each_ref(f);
        waiters.each_ref(f);
        tasks.each_ref(f);
        f(loop_base);
        stop.each_ref(f);
    }

    // Owned by the module and by every event loop: at the interpreter's end either may go first.
    void acquire() { ++users_; }
    void release() {
        if (--users_ == 0) delete this;
    }

 private:
    py::Ref alone_;
    [[no_unique_address]] py::Mutex mutex_;
    py::Atomic<int> users_ = 1;
};

}  // namespace pyev::aio
