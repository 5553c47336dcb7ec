// The ready ring: handles to run, first in, first out.
#pragma once

#include <Python.h>

#include "py/ref.hpp"

namespace pyev::aio {

// A power of two of slots; owns what it holds. Pushed to by any thread that has the GIL, popped
// from by the one that runs the loop.
class Ready {
 public:
    Ready() = default;
    Ready(const Ready&) = delete;
    ~Ready() {
        clear();
        PyMem_RawFree(slots_);
    }

    size_t size() const { return tail_ - head_; }
    bool empty() const { return head_ == tail_; }

    [[nodiscard]] bool push(PyObject* handle) {
        if (size() == capacity_ && !grow()) return false;
        slots_[tail_++ & (capacity_ - 1)] = Py_NewRef(handle);
        return true;
    }
    py::Ref pop() { return py::Ref::steal(slots_[head_++ & (capacity_ - 1)]); }
    void clear() {
        while (!empty()) pop();
    }

    template <class F>
    int visit(F f) {
        for (size_t i = head_; i != tail_; ++i)
            if (int result = f(slots_[i & (capacity_ - 1)])) return result;
        return 0;
    }

 private:
    bool grow() {
        size_t capacity = capacity_ ? capacity_ * 2 : 64;
        auto** slots = static_cast<PyObject**>(PyMem_RawMalloc(capacity * sizeof(PyObject*)));
        if (!slots) return PyErr_NoMemory() != nullptr;
        size_t count = size();
        for (size_t i = 0; i < count; ++i) slots[i] = slots_[(head_ + i) & (capacity_ - 1)];
        PyMem_RawFree(slots_);
        slots_ = slots;
        capacity_ = capacity;
        head_ = 0;
        tail_ = count;
        return true;
    }

    PyObject** slots_ = nullptr;
    size_t capacity_ = 0;
    size_t head_ = 0, tail_ = 0;  // never wrapped; a slot is one of them modulo the capacity
};

}  // namespace pyev::aio
