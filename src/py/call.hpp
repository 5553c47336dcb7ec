// Calls from C++ into Python.
#pragma once

#include <Python.h>

#include "py/ref.hpp"

namespace pyev::py {

// One vectorcall; no tuple is built. The callable stays alive until it returns.
template <class... A>
Ref call(PyObject* callable, A... arguments) {
    Ref keep = Ref::borrow(callable);
    PyObject* values[] = {nullptr, arguments...};
    return Ref::steal(PyObject_Vectorcall(callable, values + 1,
                                          sizeof...(A) | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
}

}  // namespace pyev::py
