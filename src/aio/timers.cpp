// The timers of an event loop.
#include "aio/timers.hpp"

namespace pyev::aio {

using py::Ref;

// Four children a node: half the levels of a binary heap, and siblings share a cache line or two.
static constexpr size_t kWidth = 4;

void Timers::sift_up(HandleTypes& types, size_t index, Entry entry) {
    while (index > 0) {
        size_t parent = (index - 1) / kWidth;
        if (!(entry < heap_[parent])) break;
        put(types, index, heap_[parent]);
        index = parent;
    }
    put(types, index, entry);
}

void Timers::sift_down(HandleTypes& types, size_t index, Entry entry) {
    for (;;) {
        size_t first = index * kWidth + 1;
        if (first >= heap_.size()) break;
        Entry* begin = heap_.begin() + first;
        Entry* end = heap_.begin() + std::min(first + kWidth, heap_.size());
        Entry* child = std::min_element(begin, end);
        if (!(*child < entry)) break;
        size_t position = static_cast<size_t>(child - heap_.begin());
        put(types, index, *child);
        index = position;
    }
    put(types, index, entry);
}

bool Timers::push(HandleTypes& types, PyObject* handle) {
    bool untracked = !PyObject_GC_IsTracked(handle);
    Entry entry = {types.timer(handle).when, next_order_++ << 1 | untracked, handle};
    if (!fresh_.push(entry)) return false;
    put_fresh(types, fresh_.size() - 1, entry);
    Ref::borrow(handle).release();
    first_fresh_ = std::min(first_fresh_, entry.when);
    untracked_ |= untracked;
    return true;
}

Timers::Place Timers::place_of(HandleTypes& types, PyObject* handle) {
    Py_ssize_t index = types.timer(handle).index;
    py::Array<Entry>& entries = index < 0 ? fresh_ : heap_;
    auto position = static_cast<size_t>(index < 0 ? -1 - index : index);
    bool there = position < entries.size() && entries[position].handle == handle;
    return {there ? &entries : nullptr, position};
}

// From the heap.
void Timers::take(HandleTypes& types, size_t index) {
    Entry last = heap_[heap_.size() - 1];
    heap_.remove_last();
    if (index == heap_.size()) return;
    if (index > 0 && last < heap_[(index - 1) / kWidth])
        sift_up(types, index, last);
    else
        sift_down(types, index, last);
}

void Timers::remove(HandleTypes& types, PyObject* handle) {
    Place place = place_of(types, handle);
    if (!place.entries) return;
    Ref removed = Ref::steal(handle);
    if (place.entries == &heap_) {
        take(types, place.index);
    } else {
        Entry last = fresh_[fresh_.size() - 1];
        fresh_.remove_last();
        if (place.index < fresh_.size()) put_fresh(types, place.index, last);
        if (fresh_.empty()) first_fresh_ = kNever;
    }
    if (size() > 0) return;
    heap_.reset(kKept);
    fresh_.reset(kKept);
}

// Of those at and below `index`, up to about `most`.
size_t Timers::count_due(size_t index, double limit, size_t most) {
    if (index >= heap_.size() || heap_[index].when >= limit) return 0;
    size_t count = 1;
    for (size_t child = index * kWidth + 1; child <= (index + 1) * kWidth && count < most; ++child)
        count += count_due(child, limit, most - count);
    return count;
}

// Makes the heap anew from those that are not due.
void Timers::take_many(HandleTypes& types, double limit) {
    size_t left = 0;
    for (Entry& entry : heap_) {
        if (entry.when < limit)
            (void)due_.push(entry);
        else
            heap_[left++] = entry;
    }
    while (heap_.size() > left) heap_.remove_last();
    for (size_t i = 0; i < left; ++i) put(types, i, heap_[i]);
    for (size_t i = left / kWidth + 1; i-- > 0;)
        if (i < left) sift_down(types, i, heap_[i]);
}

bool Timers::collect(HandleTypes& types, double limit) {
    size_t from_heap = count_due(0, limit, heap_.size());
    bool look = first_fresh_ < limit;
    size_t room = due_.size() + from_heap + (look ? fresh_.size() : 0);
    if (!due_.reserve(room) || (look && !heap_.reserve(size()))) return false;
    // Each of a few costs a walk down the heap.
    if (from_heap > heap_.size() / 16 + 8) {
        take_many(types, limit);
    } else {
        for (; from_heap > 0; --from_heap) {
            (void)due_.push(heap_[0]);
            take(types, 0);
        }
    }
    if (look) {
        for (Entry& entry : fresh_) {
            if (entry.when < limit) {
                (void)due_.push(entry);
            } else {
                (void)heap_.push(entry);
                sift_up(types, heap_.size() - 1, entry);
            }
        }
        fresh_.reset(kKept);
        first_fresh_ = kNever;
    }
    if (heap_.empty()) heap_.reset(kKept);
    if (!std::is_sorted(due_.begin(), due_.end())) std::sort(due_.begin(), due_.end());
    return true;
}

void Timers::track() {
    if (!untracked_) return;
    untracked_ = false;
    for (py::Array<Entry>* entries : {&heap_, &fresh_, &due_}) {
        for (Entry& entry : *entries) {
            if (!(entry.order & 1)) continue;
            HandleTypes::track(entry.handle);
            entry.order &= ~uint64_t{1};
        }
    }
}

void Timers::clear() {
    first_fresh_ = kNever;
    for (py::Array<Entry>* entries : {&heap_, &fresh_, &due_}) {
        while (!entries->empty()) {
            Ref handle = Ref::steal((*entries)[entries->size() - 1].handle);
            entries->remove_last();
        }
    }
}

}  // namespace pyev::aio
