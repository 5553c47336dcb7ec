// CPython's versions, told apart in this one file.
#pragma once

#include <Python.h>
#include <pthread.h>

// A Python without a GIL, as far as this code knows how to be safe there: 3.13 lacks the calls that
// takes.
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
#define PYEV_FREE_THREADED
// A row of a module's slots: the GIL need not come back for us.
#define PYEV_NEEDS_NO_GIL {Py_mod_gil, Py_MOD_GIL_NOT_USED}
#else
#define PYEV_NEEDS_NO_GIL {0, nullptr}
#endif

// Another row: each interpreter may have a GIL of its own.
#if PY_VERSION_HEX >= 0x030C0000
#define PYEV_PER_INTERPRETER_GIL \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}
#else
#define PYEV_PER_INTERPRETER_GIL {0, nullptr}
#endif

namespace pyev::py {

#ifdef PYEV_FREE_THREADED
constexpr bool kHasGil = false;
#else
constexpr bool kHasGil = true;
#endif

// The exception being raised, as one owned object; the error indicator is cleared.
inline PyObject* take_raised() {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!type) return nullptr;
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) PyException_SetTraceback(value, traceback);
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

// Steals `exception` and raises it.
inline void put_raised(PyObject* exception) {
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyErr_Restore(Py_NewRef(Py_TYPE(exception)), exception, PyException_GetTraceback(exception));
#endif
}

// signal.set_wakeup_fd, which is `function`, with `names` its keyword: the previous descriptor, or
// -1; -2 and no exception when it is refused. Since 3.13 there is a C form, 200 times as fast for
// it does not ask the system about the descriptor; but it turns warnings of a full buffer on, so it
// serves only where they do not matter.
inline int set_wakeup_fd(int fd, PyObject* function, PyObject* names,
                         [[maybe_unused]] bool may_warn) {
#if PY_VERSION_HEX >= 0x030D0000
    if (may_warn || fd < 0) return PySignal_SetWakeupFd(fd);
#endif
    PyObject* number = PyLong_FromLong(fd);
    if (!number) return PyErr_Clear(), -2;
    PyObject* arguments[] = {number, Py_False};
    PyObject* previous = PyObject_Vectorcall(function, arguments, 1, names);
    int result = previous ? static_cast<int>(PyLong_AsLong(previous)) : -2;
    PyErr_Clear();
    Py_DECREF(number);
    Py_XDECREF(previous);
    return result;
}

// What Python calls the thread's identity.
inline unsigned long this_thread() {
#if defined(__x86_64__) && defined(__linux__)
    // What pthread_self returns here, without a call.
    return reinterpret_cast<unsigned long>(__builtin_thread_pointer());
#else
    return reinterpret_cast<unsigned long>(pthread_self());
#endif
}

// server._attach or server._detach, `name`: since 3.13 a server knows its transports.
inline PyObject* tell_server(PyObject* server, PyObject* name, PyObject* transport) {
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_CallMethodOneArg(server, name, transport);
#else
    (void)transport;
    return PyObject_CallMethodNoArgs(server, name);
#endif
}

// Whether somebody looks at the memory of a bytearray, so that its size must not change.
inline bool exported(PyObject* bytearray) {
    return reinterpret_cast<PyByteArrayObject*>(bytearray)->ob_exports > 0;
}

// del bytearray[:count]. That costs three allocations where CPython only moves a pointer; where it
// gives memory back, it is asked.
inline bool drop_head(PyObject* bytearray, Py_ssize_t count) {
#if PY_VERSION_HEX < 0x030F0000
    auto* self = reinterpret_cast<PyByteArrayObject*>(bytearray);
    Py_ssize_t rest = Py_SIZE(self) - count;
    if (rest >= self->ob_alloc / 2) {
        self->ob_start += count;
        Py_SET_SIZE(self, rest);
        return true;
    }
#endif
    return PySequence_DelSlice(bytearray, 0, count) == 0;
}

// Whether asyncio's sockets join what writelines() gets, and complain as b"".join() does.
constexpr bool kSocketsJoin = PY_VERSION_HEX < 0x030C0000;

// Whether a contextvars.Context is as py/context.hpp describes it; it has been since 3.7.
inline constexpr bool kContextPartsKnown = PY_VERSION_HEX < 0x030F0000;

inline bool finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

}  // namespace pyev::py
