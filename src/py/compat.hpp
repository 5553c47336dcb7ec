// CPython's versions, told apart in this one file.
#pragma once

#include <Python.h>

#include <initializer_list>

// A row of a module's slots: each interpreter may have a GIL of its own.
#if PY_VERSION_HEX >= 0x030C0000
#define PYEV_PER_INTERPRETER_GIL \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}
#else
#define PYEV_PER_INTERPRETER_GIL {0, nullptr}
#endif

namespace pyev::py {

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

// signal.set_wakeup_fd without warnings about a full buffer: the previous one, or -1; -2 and no
// exception when it is refused. Before 3.13 the C function is not exported; it is 20 times as fast,
// but always warns, so it serves only to take a descriptor away.
inline int set_wakeup_fd(int fd) {
#if PY_VERSION_HEX >= 0x030D0000
    if (fd < 0) return PySignal_SetWakeupFd(fd);
#endif
    PyObject* module = PyImport_ImportModule("signal");
    PyObject* function = module ? PyObject_GetAttrString(module, "set_wakeup_fd") : nullptr;
    PyObject* arguments = Py_BuildValue("(i)", fd);
    PyObject* options = Py_BuildValue("{s:O}", "warn_on_full_buffer", Py_False);
    PyObject* previous = nullptr;
    if (function && arguments && options) previous = PyObject_Call(function, arguments, options);
    int result = previous ? static_cast<int>(PyLong_AsLong(previous)) : -2;
    PyErr_Clear();
    for (PyObject* object : {module, function, arguments, options, previous}) Py_XDECREF(object);
    return result;
}

inline bool finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

}  // namespace pyev::py
