// What a transport has yet to send.
#pragma once

#include <Python.h>
#include <sys/uio.h>

#include <algorithm>

#include "py/array.hpp"
#include "py/ref.hpp"

namespace pyev::net {

// Pieces of bytes objects, in order; owns the objects. Its memory is given back when it is empty.
class WriteQueue {
 public:
    ~WriteQueue() { clear(); }

    bool empty() const { return size_ == 0; }
    size_t size() const { return size_; }  // bytes

    // `bytes` from `start` on; nothing when there is no more.
    [[nodiscard]] bool push(PyObject* bytes, size_t start = 0) {
        size_t size = static_cast<size_t>(PyBytes_GET_SIZE(bytes));
        if (size <= start) return true;
        if (!pieces_.push({bytes, PyBytes_AS_STRING(bytes) + start, size - start})) return false;
        py::Ref::borrow(bytes).release();
        size_ += size - start;
        return true;
    }

    // Describes what is first, up to `count` pieces and `most` bytes; returns how many pieces.
    int peek(iovec* vectors, int count, size_t most, size_t& bytes) {
        int found = 0;
        bytes = 0;
        for (size_t i = first_; i < pieces_.size() && found < count && bytes < most; ++i) {
            size_t size = std::min(pieces_[i].size, most - bytes);
            vectors[found++] = {const_cast<char*>(pieces_[i].data), size};
            bytes += size;
        }
        return found;
    }

    // They have been sent.
    void consume(size_t bytes) {
        size_ -= bytes;
        while (bytes) {
            Piece& piece = pieces_[first_];
            if (bytes < piece.size) {
                piece.data += bytes;
                piece.size -= bytes;
                return compact();
            }
            bytes -= piece.size;
            drop_first();
        }
        compact();
    }

    void clear() {
        size_ = 0;
        while (first_ < pieces_.size()) drop_first();
        compact();
    }

    template <class F>
    int visit(F f) {
        for (size_t i = first_; i < pieces_.size(); ++i)
            if (int result = f(pieces_[i].owner)) return result;
        return 0;
    }

 private:
    struct Piece {
        PyObject* owner;
        const char* data;
        size_t size;
    };

    void drop_first() { py::Ref owner = py::Ref::steal(pieces_[first_++].owner); }

    void compact() {
        if (first_ == pieces_.size()) {
            pieces_.reset(kKept);
            first_ = 0;
        } else if (first_ >= kKept && first_ >= pieces_.size() / 2) {  // each moves twice at most
            pieces_.remove_first(first_);
            first_ = 0;
        }
    }

    static constexpr size_t kKept = 16;  // pieces that an empty queue keeps room for

    // Room for an answer in two parts: every connection that has written keeps it.
    py::Array<Piece, 1> pieces_;
    size_t first_ = 0;
    size_t size_ = 0;
};

}  // namespace pyev::net
