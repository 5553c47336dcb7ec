// Binding arguments to parameters, and numbers to C.
#include "py/args.hpp"

namespace pyev::py {

static int find(const Parameters& parameters, PyObject* name) {
    for (int i = 0; i < parameters.size; ++i)
        if (PyUnicode_CompareWithASCIIString(name, parameters.names[i]) == 0) return i;
    return -1;
}

bool bind_all(const Parameters& parameters, Args args, PyObject** slots) {
    int next = 0;
    for (Py_ssize_t i = 0; i < args.count; ++i, ++next) {
        while (next < parameters.positional && slots[next]) ++next;
        if (next >= parameters.positional)
            return raise(PyExc_TypeError, "%s() got too many positional arguments (%zd)",
                         parameters.function, args.count);
        slots[next] = args.values[i];
    }
    Py_ssize_t keywords = args.names ? PyTuple_GET_SIZE(args.names) : 0;
    for (Py_ssize_t i = 0; i < keywords; ++i) {
        PyObject* name = PyTuple_GET_ITEM(args.names, i);
        int index = find(parameters, name);
        if (index < 0)
            return raise(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                         parameters.function, name);
        if (slots[index])
            return raise(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                         parameters.function, name);
        slots[index] = args.values[args.count + i];
    }
    return require(parameters, slots);
}

PyObject* bind_one_by_name(const char* function, const char* name, PyObject* const* values,
                           Py_ssize_t count, PyObject* names) {
    PyObject* slot = nullptr;
    return bind_all({function, &name, 1, 1, 1}, {values, count, names}, &slot) ? slot : nullptr;
}

bool require(const Parameters& parameters, PyObject* const* slots) {
    for (int i = 0; i < parameters.required; ++i)
        if (!slots[i])
            return raise(PyExc_TypeError, "%s() missing required argument '%s'",
                         parameters.function, parameters.names[i]);
    return true;
}

bool to_int(PyObject* object, int& result) {
    Ref index;
    PyObject* number = object;
    if (!PyLong_CheckExact(object)) {
        if (!PyIndex_Check(object))
            return raise(PyExc_TypeError, "an integer is required, not '%.200s'",
                         Py_TYPE(object)->tp_name);
        index = Ref::steal(PyNumber_Index(object));
        if (!index) return false;
        number = index.get();
    }
    int overflow;
    long value = PyLong_AsLongAndOverflow(number, &overflow);
    if (overflow || value < INT_MIN || value > INT_MAX)
        return raise(PyExc_OverflowError, "an integer is too large for a C int");
    result = static_cast<int>(value);
    return true;
}

bool to_double(PyObject* object, double& result) {
    result = PyFloat_AsDouble(object);
    return result != -1.0 || !PyErr_Occurred();
}

bool to_fd(PyObject* object, int& result) {
    Ref number;
    if (!PyIndex_Check(object)) {
        number = Ref::steal(PyObject_CallMethod(object, "fileno", nullptr));
        if (!number) {
            if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return false;
            return raise(PyExc_TypeError,
                         "a file descriptor must be an int or have a fileno() method, "
                         "not '%.200s'",
                         Py_TYPE(object)->tp_name);
        }
        object = number.get();
    }
    if (!to_int(object, result)) return false;
    if (result < 0)
        return raise(PyExc_ValueError, "a file descriptor cannot be negative (%d)%s", result,
                     number ? ": is it closed?" : "");
    return true;
}

}  // namespace pyev::py
