// Calling conventions, adapted once: a member function becomes a row of a method or getset table.
//
// Every adaptor of a method takes the lock of what T belongs to (py/lock.hpp), and asks `bool
// T::enter()`: alive, and called from the thread that may. Those with Guard::kAlive ask only `bool
// T::alive()` and take none: plain reads, and calls any thread may make. Guard::kWaits is for reads
// of more than a word, in any thread.
#pragma once

#include <Python.h>

#include "py/args.hpp"
#include "py/lock.hpp"
#include "py/object.hpp"
#include "py/ref.hpp"

namespace pyev::py {

template <class M>
struct MemberOf;
template <class T, class R, class... A>
struct MemberOf<R (T::*)(A...)> {
    using Type = T;
};
template <class T, class R, class... A>
struct MemberOf<R (T::*)(A...) const> {
    using Type = T;
};
template <auto F>
using Owner = typename MemberOf<decltype(F)>::Type;

// Who is let in: to kAlive and kAny from any thread, to kAny and kNone what is half made too.
enum class Guard { kEnter, kAlive, kAny, kNone, kWaits };

template <Guard G, class T>
using Inside = std::conditional_t<G == Guard::kAlive || G == Guard::kAny, Reading<T>, Locked<T>>;
template <Guard G, class T>
using InsideRead = std::conditional_t<G == Guard::kWaits, Waiting<T>, Reading<T>>;

template <Guard G, class T>
bool admitted(T* value) {
    if constexpr (G == Guard::kEnter) return value->enter();
    if constexpr (G == Guard::kAlive || G == Guard::kWaits) return value->alive();
    return true;
}

// `Ref F()`
template <auto F, Guard G = Guard::kEnter>
PyMethodDef noargs(const char* name, const char* doc) {
    PyCFunction call = [](PyObject* self, PyObject*) -> PyObject* {
        auto* value = value_of<Owner<F>>(self);
        Inside<G, Owner<F>> inside(value);
        if (!inside || !admitted<G>(value)) return nullptr;
        return (value->*F)().release();
    };
    return {name, call, METH_NOARGS, doc};
}

// `Ref F(PyObject*)`
template <auto F, Guard G = Guard::kEnter>
PyMethodDef onearg(const char* name, const char* doc) {
    PyCFunction call = [](PyObject* self, PyObject* argument) -> PyObject* {
        auto* value = value_of<Owner<F>>(self);
        Inside<G, Owner<F>> inside(value);
        if (!inside || !admitted<G>(value)) return nullptr;
        return (value->*F)(argument).release();
    };
    return {name, call, METH_O, doc};
}

// `Ref F(Args)`
template <auto F, Guard G = Guard::kEnter>
PyMethodDef fast(const char* name, const char* doc) {
    using Call = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);
    Call call = [](PyObject* self, PyObject* const* values, Py_ssize_t count,
                   PyObject* names) -> PyObject* {
        auto* value = value_of<Owner<F>>(self);
        Inside<G, Owner<F>> inside(value);
        if (!inside || !admitted<G>(value)) return nullptr;
        return (value->*F)(Args{values, count, names}).release();
    };
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)),
            METH_FASTCALL | METH_KEYWORDS, doc};
}

// `Ref G()`, read-only.
template <auto G, Guard W = Guard::kAlive>
PyGetSetDef get(const char* name, const char* doc) {
    getter read = [](PyObject* self, void*) -> PyObject* {
        auto* value = value_of<Owner<G>>(self);
        InsideRead<W, Owner<G>> reading(value);
        if (!admitted<W>(value)) return nullptr;
        return (value->*G)().release();
    };
    return {name, read, nullptr, doc, nullptr};
}

// `Ref G()` and `bool S(PyObject*)`; S gets null for `del` where Deletable, else `del` is a
// TypeError.
template <auto G, auto S, Guard W = Guard::kAlive, bool Deletable = false>
PyGetSetDef getset(const char* name, const char* doc) {
    PyGetSetDef row = get<G, W>(name, doc);
    row.closure = const_cast<char*>(name);
    row.set = [](PyObject* self, PyObject* object, void* closure) -> int {
        auto* value = value_of<Owner<S>>(self);
        if (!object && !Deletable) {
            PyErr_Format(PyExc_TypeError, "cannot delete attribute '%s'",
                         static_cast<const char*>(closure));
            return -1;
        }
        Locked locked(value);
        if (!locked || !admitted<W == Guard::kNone ? Guard::kNone : Guard::kEnter>(value))
            return -1;
        return (value->*S)(object) ? 0 : -1;
    };
    return row;
}

}  // namespace pyev::py
