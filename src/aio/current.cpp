// The thread-safe handle that a loop is running, and the threads that wait for its end.
#include "aio/current.hpp"

#include <pythread.h>

#include <new>

namespace pyev::aio {

// Not on the thread's stack: a child forked inside the callback has the list, but not the threads.
struct Current::Waiter {
    PyThread_type_lock lock;  // held until the handle has run
    PyObject* handle;
    py::Atomic<bool> woken;
    Waiter* next;
};

Current::Run::Run(Current& current, PyObject* handle)
    : current_(current),
      handle_(handle),
      thread_(PyThread_get_thread_ident()),
      outer_(current.run_) {
    py::Hold hold(current.mutex_);
    current.run_ = this;
}

Current::Run::~Run() {
    py::Hold hold(current_.mutex_);
    current_.run_ = outer_;
    if (current_.waiters_) current_.wake(handle_);
}

bool Current::runs_elsewhere(PyObject* handle) const {
    for (Run* run = run_; run; run = run->outer_)
        if (run->handle_ == handle) return run->thread_ != PyThread_get_thread_ident();
    return false;
}

void Current::wake(PyObject* handle) {
    for (Waiter* waiter = waiters_; waiter; waiter = waiter->next) {
        if (waiter->handle != handle || waiter->woken) continue;
        waiter->woken = true;
        PyThread_release_lock(waiter->lock);
    }
}

bool Current::wait(PyObject* handle) {
    {
        py::Hold hold(mutex_);
        if (!runs_elsewhere(handle)) return true;
    }
    PyThread_type_lock lock = PyThread_allocate_lock();
    auto* waiter = static_cast<Waiter*>(PyMem_RawMalloc(sizeof(Waiter)));
    if (!lock || !waiter) {
        if (lock) PyThread_free_lock(lock);
        PyMem_RawFree(waiter);
        PyErr_NoMemory();
        return false;
    }
    PyThread_acquire_lock(lock, NOWAIT_LOCK);
    {
        py::Hold hold(mutex_);
        new (waiter) Waiter{lock, handle, !py::kHasGil && !runs_elsewhere(handle), waiters_};
        waiters_ = waiter;
    }
    bool interrupted = false;
    while (!waiter->woken && !interrupted) {
        PyLockStatus status;
        Py_BEGIN_ALLOW_THREADS;
        status = PyThread_acquire_lock_timed(lock, -1, 1);
        Py_END_ALLOW_THREADS;
        interrupted = status == PY_LOCK_INTR && PyErr_CheckSignals() < 0;
    }
    {
        py::Hold hold(mutex_);
        for (Waiter** at = &waiters_; *at; at = &(*at)->next) {
            if (*at != waiter) continue;
            *at = waiter->next;
            break;
        }
    }
    PyThread_free_lock(lock);
    PyMem_RawFree(waiter);
    return !interrupted;
}

}  // namespace pyev::aio
