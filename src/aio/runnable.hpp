// What the ready ring and the end of a turn call besides handles: the transports of the layer
// above.
#pragma once

#include <Python.h>

#include "py/ref.hpp"

namespace pyev::aio {

// The first part of a transport's value. `T` in py::value_of<T> may be this or the transport.
struct Runnable {
    // What asyncio's _FlowControlMixin keeps in slots; of these only `_extra` is used here.
    struct Head {
        PyObject_HEAD
        py::Ref extra;
        PyObject* unused[4];
        PyObject* weakrefs;
        py::Ref dict;
    };

    struct Table {
        // Popped from the ready ring, where it was put for the reason `what`. False: the exception
        // that is set leaves run_forever().
        bool (*run)(Runnable*, unsigned what);
        // The turn ends: what was written in it is to be sent. False as above.
        bool (*flush)(Runnable*);
        // Before a fork: the same of all that it holds, whatever was written when.
        bool (*send_all)(Runnable*);
        // The loop is closed: let go of everything in libev. Runs no Python code.
        void (*detach)(Runnable*);
    };

    explicit Runnable(const Table* functions) : table(functions) {}

    const Table* table;
    Runnable* next_flush = nullptr;  // in the list of those that have something to send
    bool flushes = false;            // it is in that list
    bool lends = false;              // other code may watch its descriptor: sendfile
};

}  // namespace pyev::aio
