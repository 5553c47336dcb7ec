// The timers of an event loop: kept by itself, so that a cancelled one gives its memory back at
// once, and a million of them cost libev one.
#pragma once

#include <Python.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "aio/handle.hpp"
#include "py/array.hpp"

namespace pyev::aio {

// Owns its handles, which know their place. A new one is appended to a list, where most timeouts
// are cancelled again. Only when the list may have one that is due is it looked through: what is
// not due goes to a 4-ary heap by time, then by order of scheduling, so each is moved there once
// at most. What is due leaves together.
class Timers {
 public:
    ~Timers() { clear(); }

    size_t size() const { return heap_.size() + fresh_.size(); }
    // None is due before; one may be then, unless it was cancelled. Infinity: there is none.
    double bound() {
        if (!due_.empty()) return -kNever;
        return heap_.empty() ? first_fresh_ : std::min(heap_[0].when, first_fresh_);
    }

    // Whether the garbage collector knows the handle is for the caller to see to.
    [[nodiscard]] bool push(HandleTypes& types, PyObject* handle);
    bool holds(HandleTypes& types, PyObject* handle) { return place_of(types, handle).entries; }
    void remove(HandleTypes& types, PyObject* handle);
    // Takes out those that are due before `limit`, in order, for `release_due`.
    [[nodiscard]] bool collect(HandleTypes& types, double limit);
    size_t due() const { return due_.size(); }
    // Gives the reference to each of them to `f`.
    template <class F>
    void release_due(F f) {
        for (Entry& entry : due_) f(entry.handle);
        due_.reset(kKept);
    }
    // Tells the garbage collector of all.
    void track();
    void clear();

    template <class F>
    int visit(F f) {
        for (py::Array<Entry>* entries : {&heap_, &fresh_, &due_})
            for (Entry& entry : *entries)
                if (int result = f(entry.handle)) return result;
        return 0;
    }

 private:
    struct Entry {
        double when;
        uint64_t order;  // shifted; the lowest bit: the garbage collector may not know it
        PyObject* handle;
        bool operator<(const Entry& other) const {
            return when != other.when ? when < other.when : order < other.order;
        }
    };
    struct Place {
        py::Array<Entry>* entries;  // null: none
        size_t index;
    };

    // Room for as many entries is never given back.
    static constexpr size_t kKept = 4096;
    static constexpr double kNever = std::numeric_limits<double>::infinity();

    // In the heap from 0 on, in the list from -1 down. A handle that has left is not told: an
    // index means something only if the handle is there.
    void put(HandleTypes& types, size_t index, Entry entry) {
        heap_[index] = entry;
        types.timer(entry.handle).index = static_cast<Py_ssize_t>(index);
    }
    void put_fresh(HandleTypes& types, size_t index, Entry entry) {
        fresh_[index] = entry;
        types.timer(entry.handle).index = -1 - static_cast<Py_ssize_t>(index);
    }
    Place place_of(HandleTypes& types, PyObject* handle);
    void sift_up(HandleTypes& types, size_t index, Entry entry);
    void sift_down(HandleTypes& types, size_t index, Entry entry);
    void take(HandleTypes& types, size_t index);
    size_t count_due(size_t index, double limit, size_t most);
    void take_many(HandleTypes& types, double limit);

    py::Array<Entry> heap_, fresh_, due_;
    double first_fresh_ = kNever;  // no later than any of fresh_
    bool untracked_ = false;       // some may be
    uint64_t next_order_ = 0;
};

}  // namespace pyev::aio
