// The timers of an event loop: a heap of its own, so that a cancelled one gives its memory back at
// once, and a million of them cost libev one.
#pragma once

#include <Python.h>

#include <cstdint>

#include "aio/handle.hpp"
#include "py/array.hpp"

namespace pyev::aio {

// A 4-ary heap by time, then by order of scheduling; owns its handles, which know their place.
class Timers {
 public:
    ~Timers() { clear(nullptr); }

    bool empty() const { return entries_.empty(); }
    size_t size() const { return entries_.size(); }
    double earliest() { return entries_[0].when; }

    [[nodiscard]] bool push(HandleTypes& types, PyObject* handle);
    py::Ref pop(HandleTypes& types);
    void remove(HandleTypes& types, PyObject* handle);
    void clear(HandleTypes* types);

    template <class F>
    int visit(F f) {
        for (Entry& entry : entries_)
            if (int result = f(entry.handle)) return result;
        return 0;
    }

 private:
    struct Entry {
        double when;
        uint64_t order;
        PyObject* handle;
        bool operator<(const Entry& other) const {
            return when != other.when ? when < other.when : order < other.order;
        }
    };

    void place(HandleTypes& types, size_t index, Entry entry) {
        entries_[index] = entry;
        types.timer(entry.handle).index = static_cast<Py_ssize_t>(index);
    }
    void sift_up(HandleTypes& types, size_t index, Entry entry);
    void sift_down(HandleTypes& types, size_t index, Entry entry);
    py::Ref take(HandleTypes& types, size_t index);

    py::Array<Entry> entries_;
    uint64_t next_order_ = 0;
};

}  // namespace pyev::aio
