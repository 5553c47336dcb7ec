// add_reader and add_writer: a handle, or an operation, for each direction of a descriptor.
#pragma once

#include <Python.h>
#include <ev.h>

#include "ev/descriptors.hpp"
#include "py/array.hpp"
#include "py/ref.hpp"

namespace pyev::aio {

class LoopBase;

class Readers {
 public:
    explicit Readers(LoopBase* owner) : owner_(owner) {}
    ~Readers();

    // Sets the handle for one direction, and gives back the one it replaces.
    // `sends`: what it calls may send something, which may come back to this loop.
    // `open`: a system call has just found it so.
    [[nodiscard]] bool set(int fd, int events, PyObject* handle, py::Ref& replaced, bool sends,
                           bool open = false);
    // The handle that was there, or empty.
    py::Ref take(int fd, int events);
    // Watches no more what a handle that was cancelled stood for.
    void forget(PyObject* handle);
    // What the caller passed for the number: a socket that is closed meanwhile has none any more,
    // and asyncio still removes its reader.
    void note_file(int fd, int events, PyObject* file);
    // The number that `file` had then, or -1.
    int number_of(PyObject* file, int events);
    // The handle that is there, borrowed, or null.
    PyObject* at(int fd, int events) {
        Direction* direction = find(fd, events);
        return direction ? direction->handle : nullptr;
    }
    // EV_READ and EV_WRITE, as far as they are watched.
    int watching(int fd);
    void clear();

    template <class F>
    int visit(F f) {
        for (Entry& entry : entries_)
            for (Direction* direction : entry.directions)
                for (PyObject* owned : {direction ? direction->handle : nullptr,
                                        direction ? direction->file : nullptr})
                    if (owned)
                        if (int result = f(owned)) return result;
        return 0;
    }

 private:
    struct Direction {
        ev::Watch watch;
        ev_io io;
        PyObject* handle;  // owned; null while it is not watched
        PyObject* file;    // owned; null where a plain number was passed
        Readers* readers;
        bool sends;
    };
    struct Entry {
        Direction* directions[2];
    };

    static void ready(struct ev_loop*, ev_io* io, int revents);
    static void refused(Direction* direction);
    static void dead(ev::Watch* watch);
    static void other(ev::Watch* watch);
    static int index_of(int events) { return events == EV_READ ? 0 : 1; }
    Direction* find(int fd, int events) {
        if (static_cast<size_t>(fd) >= entries_.size()) return nullptr;
        Direction* direction = entries_[fd].directions[index_of(events)];
        return direction && direction->handle ? direction : nullptr;
    }
    ev::Descriptors& descriptors();

    LoopBase* owner_;
    py::Array<Entry> entries_;  // by descriptor
};

}  // namespace pyev::aio
