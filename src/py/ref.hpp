// An owned reference to a Python object. A raw PyObject* elsewhere is always borrowed.
#pragma once

#include <Python.h>

#include <utility>

namespace pyev::py {

class Ref {
 public:
    Ref() = default;
    static Ref steal(PyObject* object) { return Ref(object); }
    static Ref borrow(PyObject* object) { return Ref(Py_XNewRef(object)); }
    static Ref none() { return borrow(Py_None); }

    Ref(const Ref& other) : object_(Py_XNewRef(other.object_)) {}
    Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    ~Ref() { Py_XDECREF(object_); }

    // The new value is in place before the old one dies: its __del__ may look at us.
    Ref& operator=(Ref other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }

    void swap(Ref& other) noexcept { std::swap(object_, other.object_); }
    explicit operator bool() const { return object_ != nullptr; }
    PyObject* get() const { return object_; }
    PyObject* release() { return std::exchange(object_, nullptr); }
    PyObject* new_ref() const { return Py_XNewRef(object_); }

 private:
    explicit Ref(PyObject* object) : object_(object) {}

    PyObject* object_ = nullptr;
};

}  // namespace pyev::py
