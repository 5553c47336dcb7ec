// Python's error indicator is the only error channel: these set it and return what means "failed".
#pragma once

#include <Python.h>

#include "py/compat.hpp"
#include "py/ref.hpp"

namespace pyev::py {

// What a failing function returns, whatever its type: an empty Ref, false or nullptr.
struct Failure {
    operator Ref() const { return {}; }
    operator bool() const { return false; }
};

template <class... A>
[[nodiscard]] Failure raise(PyObject* type, const char* format, A... arguments) {
    PyErr_Format(type, format, arguments...);
    return {};
}

// errno as the subclass of OSError that fits it, with `filename` when there is one.
[[nodiscard]] inline Failure raise_errno(int number, PyObject* filename = nullptr) {
    errno = number;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, filename);
    return {};
}

// Whether the exception that is set is one that asyncio lets through wherever it is raised.
inline bool ends_program() {
    return PyErr_ExceptionMatches(PyExc_SystemExit) ||
           PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

// Holds back the error indicator while code runs that may meet errors of its own.
class ErrorGuard {
 public:
    ErrorGuard() : saved_(Ref::steal(take_raised())) {}
    ErrorGuard(const ErrorGuard&) = delete;
    ~ErrorGuard() {
        if (saved_) put_raised(saved_.release());
    }

 private:
    Ref saved_;
};

// While it lives an exception is being handled, as in an `except` block: sys.exc_info() tells of
// it, and what is raised has it as its context.
class Handling {
 public:
    explicit Handling(PyObject* error)
        : outer_(Ref::borrow(PyThreadState_Get()->exc_info->exc_value)) {
        PyErr_SetHandledException(error);
    }
    Handling(const Handling&) = delete;
    ~Handling() { PyErr_SetHandledException(outer_.get()); }

 private:
    Ref outer_;  // in this very frame: PyErr_GetHandledException() looks further
};

}  // namespace pyev::py
