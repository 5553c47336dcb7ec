// Running Python code in a contextvars.Context, and keeping one as long as nobody looks at it.
#pragma once

#include <Python.h>

#include <utility>

#include "py/compat.hpp"
#include "py/error.hpp"
#include "py/ref.hpp"

namespace pyev::py {

// Enters `context`, if there is one, for as long as it lives. An exception that is set on the way
// out is kept.
class InContext {
 public:
    explicit InContext(PyObject* context) {
        if (context && PyContext_Enter(context) == 0) context_ = Ref::borrow(context);
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

    // False: there is none, or an exception is set, since it is entered already.
    explicit operator bool() const { return static_cast<bool>(context_); }

 private:
    void leave() {
        // Only code that has left it by itself makes this fail.
        if (PyContext_Exit(context_.get()) < 0) PyErr_WriteUnraisable(context_.get());
    }

    Ref context_;
};

// Copies of the current context, made when they are needed.
//
// A context is little more than a pointer to an immutable mapping, which its copies share: the
// mapping is all that has to be kept, and one Context serves a callback after the other, as long
// as none of them has kept a reference to it; without a GIL, where threads share this, each has its
// own. CPython says so in no document, so `init` looks whether it is true here; where it is not,
// `current` has nothing to offer.
class Contexts {
 public:
    [[nodiscard]] bool init();
    template <class F>
    void each_ref(F f) {
        f(empty_);
        f(spare_);
    }

    // The variables of the current context: a new reference, or null where that is not to be had.
    PyObject* current() const {
        if (!empty_) return nullptr;
        PyObject* context = PyThreadState_Get()->context;
        return Py_NewRef(context ? parts(context)->vars : empty_.get());
    }
    // A Context of these variables that nobody else has. Empty on failure.
    Ref make(PyObject* vars);
    // One to run a callback in, to be given back.
    Ref lend(PyObject* vars) {
        if constexpr (!kHasGil) return make(vars);
        Ref context = std::move(spare_);
        if (!context || !unused(context.get())) return make(vars);
        put(context.get(), vars);
        return context;
    }
    void give_back(Ref context) {
        if constexpr (!kHasGil) return;
        if (!unused(context.get())) return;
        put(context.get(), empty_.get());  // nothing lives longer for it
        spare_ = std::move(context);
    }

 private:
    // As in CPython's internal header.
    struct Parts {
        PyObject_HEAD
        PyObject* previous;
        PyObject* vars;
        PyObject* weakrefs;
        int entered;
    };
    static Parts* parts(PyObject* context) { return reinterpret_cast<Parts*>(context); }
    static bool unused(PyObject* context) {
        return Py_REFCNT(context) == 1 && !parts(context)->entered && !parts(context)->weakrefs;
    }
    static void put(PyObject* context, PyObject* vars) {
        if (parts(context)->vars == vars) return;
        Ref before = Ref::steal(std::exchange(parts(context)->vars, Py_NewRef(vars)));
    }

    Ref empty_;  // the mapping without a variable
    Ref spare_;
};

}  // namespace pyev::py
