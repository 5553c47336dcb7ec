// Running Python code in a contextvars.Context.
#pragma once

#include <Python.h>

#include "py/error.hpp"
#include "py/ref.hpp"

namespace pyev::py {

// Enters `context` for as long as it lives. An exception that is set on the way out is kept.
class InContext {
 public:
    explicit InContext(PyObject* context) {
        if (PyContext_Enter(context) == 0) context_ = Ref::borrow(context);
    }
    InContext(const InContext&) = delete;
    ~InContext() {
        if (!context_) return;
        if (PyErr_Occurred()) {
            ErrorGuard guard;
            leave();
        } else {
            leave();
        }
    }

    // False: an exception is set, the context is entered already.
    explicit operator bool() const { return static_cast<bool>(context_); }

 private:
    void leave() {
        // Only code that has left it by itself makes this fail.
        if (PyContext_Exit(context_.get()) < 0) PyErr_WriteUnraisable(context_.get());
    }

    Ref context_;
};

}  // namespace pyev::py
