// The ready ring: what is to run, first in, first out.
#pragma once

#include <Python.h>

#include <cstdint>
#include <utility>

#include "py/ref.hpp"

namespace pyev::aio {

// Handles, and transports with the reason why they are here, in a power of two of slots. Owns what
// it holds. Pushed to by any thread that has the GIL, or without one the loop's monitor; popped
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

    // `what` is 0 for a handle, else up to kMostWhat: it lies in the bits that alignment leaves.
    static constexpr unsigned kMostWhat = 7;

    [[nodiscard]] bool push(PyObject* object, unsigned what = 0) {
        if (size() == capacity_ && !grow(1)) return false;
        slots_[tail_++ & (capacity_ - 1)] = reinterpret_cast<uintptr_t>(Py_NewRef(object)) | what;
        return true;
    }
    // Room for that many more.
    [[nodiscard]] bool reserve(size_t count) { return size() + count <= capacity_ || grow(count); }
    // Steals a handle that there is room for.
    void push_reserved(PyObject* handle) {
        slots_[tail_++ & (capacity_ - 1)] = reinterpret_cast<uintptr_t>(handle);
    }

    // A poll tells of what it found, the last first: that is put in order when the poll is over.
    // What is pushed by others in between comes before it.
    void begin_events() { first_event_ = past_events_ = tail_; }
    // What is pushed from here to end_event() is of an event.
    void begin_event() {
        if (past_events_ != tail_) make_way();
    }
    void end_event() { past_events_ = tail_; }
    void order_events() {
        if (past_events_ - first_event_ > 1) reverse(first_event_, past_events_);
    }

    // The handle's memory is fetched while those before it run: many have been waiting for long.
    void prefetch(size_t ahead) {
        auto* handle =
            reinterpret_cast<char*>(object_in(slots_[(head_ + ahead) & (capacity_ - 1)]));
        __builtin_prefetch(handle);
        __builtin_prefetch(handle + 64);
    }
    py::Ref pop(unsigned& what) {
        uintptr_t slot = slots_[head_++ & (capacity_ - 1)];
        what = slot & kMostWhat;
        return py::Ref::steal(object_in(slot));
    }
    void clear() {
        for (unsigned what; !empty();) pop(what);
    }

    template <class F>
    void each_handle(F f) {
        for (size_t i = head_; i != tail_; ++i)
            if (uintptr_t slot = slots_[i & (capacity_ - 1)]; !(slot & kMostWhat))
                f(object_in(slot));
    }
    template <class F>
    int visit(F f) {
        for (size_t i = head_; i != tail_; ++i)
            if (int result = f(object_in(slots_[i & (capacity_ - 1)]))) return result;
        return 0;
    }

 private:
    static PyObject* object_in(uintptr_t slot) {
        return reinterpret_cast<PyObject*>(slot & ~uintptr_t{kMostWhat});
    }

    uintptr_t& at(size_t position) { return slots_[position & (capacity_ - 1)]; }

    void reverse(size_t first, size_t past) {
        while (past - first > 1) std::swap(at(first++), at(--past));
    }

    // Others were pushed behind the events: exchanges the two.
    void make_way() {
        reverse(first_event_, past_events_);
        reverse(past_events_, tail_);
        reverse(first_event_, tail_);
        first_event_ += tail_ - past_events_;
    }

    bool grow(size_t more) {
        size_t capacity = capacity_ ? capacity_ * 2 : 64;
        while (capacity < size() + more) capacity *= 2;
        auto* slots = static_cast<uintptr_t*>(PyMem_RawMalloc(capacity * sizeof(uintptr_t)));
        if (!slots) return PyErr_NoMemory() != nullptr;
        for (size_t i = head_; i != tail_; ++i) slots[i & (capacity - 1)] = at(i);
        PyMem_RawFree(slots_);
        slots_ = slots;
        capacity_ = capacity;
        return true;
    }

    uintptr_t* slots_ = nullptr;
    size_t capacity_ = 0;
    size_t head_ = 0, tail_ = 0;  // never wrapped; a slot is one of them modulo the capacity
    size_t first_event_ = 0, past_events_ = 0;  // what the poll found, in the same terms
};

}  // namespace pyev::aio
