// Arguments in the vectorcall shape, bound to a parameter list, and the conversions that
// argument checking needs. Every failure sets the obvious Python exception.
#pragma once

#include <Python.h>

#include <climits>
#include <cstddef>

#include "py/error.hpp"
#include "py/ref.hpp"

namespace pyev::py {

// `count` positional values, then one value for each of `names` (a tuple, or null).
struct Args {
    PyObject* const* values;
    Py_ssize_t count;
    PyObject* names;
};

// What a callable takes. The first `positional` parameters may be given by position or by
// keyword, the others by keyword only; the first `required` must be given.
struct Parameters {
    const char* function;
    const char* const* names;
    int size;
    int positional;
    int required;
};

// Fills `slots[parameters.size]` with borrowed references, null where nothing was given.
// A slot that is filled beforehand (a factory's `loop`) takes no argument.
[[nodiscard]] bool bind_all(const Parameters& parameters, Args args, PyObject** slots);
[[nodiscard]] inline bool bind(const Parameters& parameters, Args args, PyObject** slots) {
    // One parameter, by position: a few instructions where the compiler knows the parameters.
    if (parameters.size == 1 && parameters.positional == 1 && args.count == 1 && !args.names) {
        slots[0] = args.values[0];
        return true;
    }
    return bind_all(parameters, args, slots);
}

// For bind_one. Not an Args: that would be put into memory for each call, by name or not.
[[nodiscard]] PyObject* bind_one_by_name(const char* function, const char* name,
                                         PyObject* const* values, Py_ssize_t count,
                                         PyObject* names);
// The argument of what takes one, by position or by its name. Null: an exception is set.
[[nodiscard]] inline PyObject* bind_one(const char* function, const char* name, Args args) {
    if (args.count == 1 && !args.names) [[likely]]
        return args.values[0];
    return bind_one_by_name(function, name, args.values, args.count, args.names);
}

// What `bind` ends with: the first `required` slots must be filled.
[[nodiscard]] bool require(const Parameters& parameters, PyObject* const* slots);

// Calls `body(Args)` with what tp_init got.
template <class F>
int with_tuple(PyObject* tuple, PyObject* dict, F body) {
    PyObject* const* values = reinterpret_cast<PyTupleObject*>(tuple)->ob_item;
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    if (!dict || !PyDict_GET_SIZE(dict)) return body(Args{values, count, nullptr}) ? 0 : -1;
    constexpr Py_ssize_t kMost = 32;
    Py_ssize_t keywords = PyDict_GET_SIZE(dict);
    if (count + keywords > kMost) {
        PyErr_Format(PyExc_TypeError, "too many arguments (%zd)", count + keywords);
        return -1;
    }
    PyObject* all[kMost];
    for (Py_ssize_t i = 0; i < count; ++i) all[i] = values[i];
    Ref names = Ref::steal(PyTuple_New(keywords));
    if (!names) return -1;
    PyObject *key, *value;
    for (Py_ssize_t position = 0, i = 0; PyDict_Next(dict, &position, &key, &value); ++i) {
        // The interpreter looks at them only where it makes a tuple of names by itself.
        if (!PyUnicode_Check(key)) {
            PyErr_SetString(PyExc_TypeError, "keywords must be strings");
            return -1;
        }
        PyTuple_SET_ITEM(names.get(), i, Py_NewRef(key));
        all[count + i] = value;
    }
    return body(Args{all, count, names.get()}) ? 0 : -1;
}

[[nodiscard]] bool to_int(PyObject* object, int& result);
[[nodiscard]] bool to_double(PyObject* object, double& result);
[[nodiscard]] inline bool to_bool(PyObject* object, bool& result) {
    int truth = PyObject_IsTrue(object);
    if (truth >= 0) result = truth > 0;
    return truth >= 0;
}

// An int, or the result of fileno(). ValueError when negative.
[[nodiscard]] bool to_fd(PyObject* object, int& result);

}  // namespace pyev::py
