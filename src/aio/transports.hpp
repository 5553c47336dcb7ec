// The transports of an event loop, by descriptor, and those of them that have something to send.
#pragma once

#include <Python.h>

#include <utility>

#include "aio/runnable.hpp"
#include "py/array.hpp"
#include "py/object.hpp"
#include "py/ref.hpp"

namespace pyev::aio {

// Knows every open transport, so that no other code watches its descriptor, and so that closing the
// loop reaches all; owns those that wait for events, for nobody else may.
class Transports {
 public:
    [[nodiscard]] bool add(int fd, PyObject* transport) {
        if (!entries_.extend(static_cast<size_t>(fd) + 1)) return false;
        drop(fd);
        entries_[fd].transport = transport;
        return true;
    }
    // It has closed the descriptor, or dies.
    void remove(int fd, PyObject* transport) {
        if (of(fd) == transport) drop(fd);
    }
    // Whether the loop owns it.
    void hold(int fd, PyObject* transport, bool held) {
        if (of(fd) != transport || entries_[fd].held == held) return;
        entries_[fd].held = held;
        // The loop's own reference comes, or goes.
        py::Ref reference = held ? py::Ref::borrow(transport) : py::Ref::steal(transport);
        if (held) reference.release();
    }
    // Borrowed; null when there is none.
    PyObject* of(int fd) {
        bool known = fd >= 0 && static_cast<size_t>(fd) < entries_.size();
        return known ? entries_[fd].transport : nullptr;
    }

    // A list that owns what is in it, in the order of the first write.
    void flush_later(Runnable* runnable) {
        if (std::exchange(runnable->flushes, true)) return;
        py::Ref::borrow(py::object_of(runnable)).release();
        runnable->next_flush = nullptr;
        *last_flush_ = runnable;
        last_flush_ = &runnable->next_flush;
    }
    bool to_flush() const { return first_flush_ != nullptr; }
    py::Ref next_to_flush() {
        Runnable* runnable = first_flush_;
        first_flush_ = runnable->next_flush;
        if (!first_flush_) last_flush_ = &first_flush_;
        runnable->flushes = false;
        return py::Ref::steal(py::object_of(runnable));
    }

    // What is called makes and closes none.
    template <class F>
    void each(F f) {
        for (Entry& entry : entries_)
            if (entry.transport) f(py::value_of<Runnable>(entry.transport));
    }

    void detach_all() {
        while (to_flush()) next_to_flush();
        for (size_t fd = 0; fd < entries_.size(); ++fd) {
            PyObject* transport = entries_[fd].transport;
            if (!transport) continue;
            py::Ref keep = py::Ref::borrow(transport);
            auto* runnable = py::value_of<Runnable>(transport);
            runnable->table->detach(runnable);
            drop(static_cast<int>(fd));
        }
    }

    template <class F>
    int visit(F f) {
        for (Entry& entry : entries_)
            if (entry.held)
                if (int result = f(entry.transport)) return result;
        for (Runnable* runnable = first_flush_; runnable; runnable = runnable->next_flush)
            if (int result = f(py::object_of(runnable))) return result;
        return 0;
    }

 private:
    struct Entry {
        PyObject* transport;
        bool held;
    };

    void drop(int fd) {
        Entry old = std::exchange(entries_[fd], Entry{});
        py::Ref held = py::Ref::steal(old.held ? old.transport : nullptr);
    }

    py::Array<Entry> entries_;
    Runnable* first_flush_ = nullptr;
    Runnable** last_flush_ = &first_flush_;
};

}  // namespace pyev::aio
