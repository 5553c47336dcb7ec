// A growing array of plain values that reports a failed allocation as MemoryError.
// Standard containers throw, and this code is built without exceptions.
#pragma once

#include <Python.h>

#include <cstring>
#include <type_traits>
#include <utility>

namespace pyev::py {

// `kMore`: items that there is room for beside the first.
template <class T, size_t kMore = 7>
class Array {
    static_assert(std::is_trivially_copyable_v<T>);

 public:
    Array() = default;
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    ~Array() { PyMem_RawFree(items_); }

    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T& operator[](size_t index) { return items_[index]; }
    T* begin() { return items_; }
    T* end() { return items_ + size_; }
    void clear() { size_ = 0; }

    [[nodiscard]] bool push(T item) {
        if (!reserve(size_ + 1)) return false;
        items_[size_++] = item;
        return true;
    }

    [[nodiscard]] bool append(const T* items, size_t count) {
        if (count == 0) return true;
        if (!reserve(size_ + count)) return false;
        std::memcpy(static_cast<void*>(items_ + size_), items, count * sizeof(T));
        size_ += count;
        return true;
    }

    // Grows to at least `size` items; new ones are zeroed.
    [[nodiscard]] bool extend(size_t size) {
        if (size <= size_) return true;
        if (!reserve(size)) return false;
        std::memset(static_cast<void*>(items_ + size_), 0, (size - size_) * sizeof(T));
        size_ = size;
        return true;
    }

    void swap(Array& other) {
        std::swap(items_, other.items_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
    }
    void remove_last() { --size_; }
    void remove_first(size_t count = 1) {
        size_ -= count;
        std::memmove(static_cast<void*>(items_), items_ + count, size_ * sizeof(T));
    }
    // Empties it, and keeps no more room than for `kept` items.
    void reset(size_t kept) {
        size_ = 0;
        if (capacity_ <= kept) return;
        PyMem_RawFree(std::exchange(items_, nullptr));
        capacity_ = 0;
    }

    [[nodiscard]] bool reserve(size_t size) {
        if (size <= capacity_) return true;
        size_t capacity = capacity_ * 2 < size ? size + kMore : capacity_ * 2;
        void* items = PyMem_RawRealloc(items_, capacity * sizeof(T));
        if (!items) return PyErr_NoMemory() != nullptr;
        items_ = static_cast<T*>(items);
        capacity_ = capacity;
        return true;
    }

 private:
    T* items_ = nullptr;
    size_t size_ = 0;
    size_t capacity_ = 0;
};

}  // namespace pyev::py
