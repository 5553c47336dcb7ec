// The timers of an event loop.
#include "aio/timers.hpp"

#include <algorithm>

namespace pyev::aio {

using py::Ref;

// Four children a node: half the levels of a binary heap, and siblings share a cache line or two.
static constexpr size_t kWidth = 4;

void Timers::sift_up(HandleTypes& types, size_t index, Entry entry) {
    while (index > 0) {
        size_t parent = (index - 1) / kWidth;
        if (!(entry < entries_[parent])) break;
        place(types, index, entries_[parent]);
        index = parent;
    }
    place(types, index, entry);
}

void Timers::sift_down(HandleTypes& types, size_t index, Entry entry) {
    for (;;) {
        size_t first = index * kWidth + 1;
        if (first >= entries_.size()) break;
        Entry* begin = entries_.begin() + first;
        Entry* end = entries_.begin() + std::min(first + kWidth, entries_.size());
        Entry* child = std::min_element(begin, end);
        if (!(*child < entry)) break;
        size_t position = static_cast<size_t>(child - entries_.begin());
        place(types, index, *child);
        index = position;
    }
    place(types, index, entry);
}

bool Timers::push(HandleTypes& types, PyObject* handle) {
    Entry entry = {types.timer(handle).when, next_order_++, handle};
    if (!entries_.push(entry)) return false;
    Py_INCREF(handle);
    sift_up(types, entries_.size() - 1, entry);
    return true;
}

Ref Timers::take(HandleTypes& types, size_t index) {
    Ref handle = Ref::steal(entries_[index].handle);
    types.timer(handle.get()).index = -1;
    Entry last = entries_[entries_.size() - 1];
    entries_.remove_last();
    if (index < entries_.size()) {
        if (index > 0 && last < entries_[(index - 1) / kWidth])
            sift_up(types, index, last);
        else
            sift_down(types, index, last);
    }
    return handle;
}

Ref Timers::pop(HandleTypes& types) { return take(types, 0); }

void Timers::remove(HandleTypes& types, PyObject* handle) {
    Py_ssize_t index = types.timer(handle).index;
    if (index >= 0) take(types, static_cast<size_t>(index));
}

void Timers::clear(HandleTypes* types) {
    while (!entries_.empty()) {
        Ref handle = Ref::steal(entries_[entries_.size() - 1].handle);
        if (types) types->timer(handle.get()).index = -1;
        entries_.remove_last();
    }
}

}  // namespace pyev::aio
