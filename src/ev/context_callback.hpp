// ContextCallback: a callback, and the contextvars.Context that it is called in.
//
// It stands where the callback would, in the watchers of a loop that somebody drives: so a plain
// loop pays nothing for it. Made by the layer's State, called like the callback itself.
#pragma once

#include <Python.h>

#include "py/object.hpp"
#include "py/ref.hpp"

namespace pyev::ev {

class State;

class ContextCallback {
 public:
    static const py::TypeInfo kType;

    ContextCallback() : call_(call) {}

    // Null when `object` is something else.
    static ContextCallback* of(PyObject* object) {
        return py::is<ContextCallback>(object) ? py::value_of<ContextCallback>(object) : nullptr;
    }
    // Borrowed: the callback itself, also of what is not wrapped.
    static PyObject* callback_of(PyObject* object) {
        ContextCallback* self = of(object);
        return self ? self->callback_.get() : object;
    }
    static py::Ref make(State& state, PyObject* callback);
    static PyObject* call(PyObject* self, PyObject* const* values, size_t count, PyObject* names);

    // From now on in a copy of the current context.
    [[nodiscard]] bool renew();
    py::Ref& callback() { return callback_; }

    template <class F>
    void each_ref(F f) {
        f(callback_);
        f(context_);
    }
    void stop_for_clear() {}
    bool unfinished() const { return false; }
    void finalize() {}
    py::Ref repr() { return py::Ref::steal(PyObject_Repr(callback_ ? callback_.get() : Py_None)); }

 private:
    vectorcallfunc call_;
    py::Ref callback_, context_;
};

}  // namespace pyev::ev
