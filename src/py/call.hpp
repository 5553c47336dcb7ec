// Calls from C++ into Python.
#pragma once

#include <Python.h>

#include <cstring>

#include "py/args.hpp"
#include "py/array.hpp"
#include "py/ref.hpp"

namespace pyev::py {

// One vectorcall; no tuple is built. The caller keeps the callable alive until it returns.
template <class... A>
Ref call(PyObject* callable, A... arguments) {
    PyObject* values[] = {nullptr, arguments...};
    constexpr size_t size = sizeof...(A) | PY_VECTORCALL_ARGUMENTS_OFFSET;
    // What PyObject_Vectorcall does, without its detours.
    PyTypeObject* type = Py_TYPE(callable);
    if (type->tp_flags & Py_TPFLAGS_HAVE_VECTORCALL) {
        vectorcallfunc function;
        std::memcpy(&function, reinterpret_cast<char*>(callable) + type->tp_vectorcall_offset,
                    sizeof function);
        if (function) return Ref::steal(function(callable, values + 1, size, nullptr));
    }
    return Ref::steal(PyObject_Vectorcall(callable, values + 1, size, nullptr));
}

// object.name(*arguments), without a bound method in between.
template <class... A>
Ref call_method(PyObject* object, PyObject* name, A... arguments) {
    PyObject* values[] = {nullptr, object, arguments...};
    constexpr size_t size = (sizeof...(A) + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET;
    return Ref::steal(PyObject_VectorcallMethod(name, values + 1, size, nullptr));
}

// function(self, ...) with the arguments of a method, keywords too.
inline Ref call_with_self(PyObject* function, PyObject* self, Args args) {
    Py_ssize_t keywords = args.names ? PyTuple_GET_SIZE(args.names) : 0;
    Array<PyObject*> values;
    if (!values.push(self)) return {};
    for (Py_ssize_t i = 0; i < args.count + keywords; ++i)
        if (!values.push(args.values[i])) return {};
    return Ref::steal(PyObject_Vectorcall(function, values.begin(),
                                          static_cast<size_t>(args.count + 1), args.names));
}

}  // namespace pyev::py
