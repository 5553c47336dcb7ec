// The thread-safe handle that a loop is running, and the threads that wait for its end.
//
// A handle of call_soon_threadsafe() may be cancelled by another thread while it runs. From Python
// 3.14 on, cancel() and cancelled() then wait until it has run. asyncio keeps a lock in each such
// handle; since a loop runs one at a time, it is enough here to know which one. Needs the
// GIL; without one it has a lock.
#pragma once

#include <Python.h>

#include "py/lock.hpp"

namespace pyev::aio {

class Current {
 public:
    // Around a run: of `handle`, on this thread. Runs may be nested, by whoever patches asyncio.
    class Run {
     public:
        Run(Current& current, PyObject* handle);
        Run(const Run&) = delete;
        ~Run();

     private:
        Current& current_;
        PyObject* handle_;
        unsigned long thread_;
        Run* outer_;
        friend class Current;
    };

    // Returns when no other thread is running `handle`; false: a signal's handler raised. The
    // caller holds a reference to what this is in.
    [[nodiscard]] bool wait(PyObject* handle);

 private:
    struct Waiter;

    bool runs_elsewhere(PyObject* handle) const;
    void wake(PyObject* handle);

    [[no_unique_address]] py::Mutex mutex_;
    Run* run_ = nullptr;         // the innermost
    Waiter* waiters_ = nullptr;  // each taken out by its own thread
};

}  // namespace pyev::aio
