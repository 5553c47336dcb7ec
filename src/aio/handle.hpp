// asyncio's handles, made natively.
//
// A native handle is a subclass of asyncio.Handle (or TimerHandle) and keeps everything in that
// class's own slots, so isinstance, repr and whoever looks inside find what they know. Only making,
// running, cancelling and freeing one are native. Freed ones are kept for the next.
#pragma once

#include <Python.h>

#include <initializer_list>
#include <utility>

#include "py/ref.hpp"

namespace pyev::aio {

class LoopBase;
class State;

// Behind asyncio.TimerHandle's own slots.
struct TimerPart {
    double when;
    Py_ssize_t index;  // in its loop's heap; -1: not there
};

class HandleTypes {
 public:
    ~HandleTypes() { clear(); }

    [[nodiscard]] bool init(PyObject* module);
    void clear();
    template <class F>
    void each_ref(F f) {
        f(base_);
        f(cancel_in_debug_);
        f(run_in_debug_);
        for (Kind* kind : {&handle_, &timer_, &thread_safe_}) f(kind->type);
    }

    // Empty on failure. `args` is a tuple; a null `context` is the current one.
    py::Ref make(PyObject* loop, PyObject* callback, PyObject* args, PyObject* context) {
        return make_of(handle_, loop, callback, args, context);
    }
    // For any thread to cancel, as far as this Python's asyncio has handles of that kind.
    py::Ref make_thread_safe(PyObject* loop, PyObject* callback, PyObject* args,
                             PyObject* context) {
        return make_of(thread_safe_.type ? thread_safe_ : handle_, loop, callback, args, context);
    }
    py::Ref make_timer(PyObject* loop, PyObject* when, double time, PyObject* callback,
                       PyObject* args, PyObject* context);

    bool ready() const { return static_cast<bool>(timer_.type); }
    // Of this or asyncio's own making: both have the slots.
    bool is_handle(PyObject* object) const {
        return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(base_.get()));
    }
    TimerPart& timer(PyObject* handle) const {
        return *reinterpret_cast<TimerPart*>(reinterpret_cast<char*>(handle) + timer_part_);
    }
    // Of this making: asyncio's own have a lock.
    bool is_thread_safe(PyObject* handle) const { return is_of(thread_safe_, handle); }
    // Of any asyncio.Handle.
    bool cancelled(PyObject* handle) const { return slot(handle, cancelled_) == Py_True; }
    // Calls the callback in its context.
    py::Ref run(PyObject* handle) const;
    void set_source_traceback(PyObject* handle, PyObject* traceback) const {
        set(handle, source_traceback_, traceback);
    }

 private:
    static constexpr int kSpares = 256;

    struct Kind {
        py::Ref type;
        PyObject* spares[kSpares];
        int count = 0;
    };

    static HandleTypes* of(PyTypeObject* type);
    static void dealloc(PyObject* self);
    static int traverse(PyObject* self, visitproc visit, void* arg);
    static int clear_handle(PyObject* self);
    static PyObject* cancel(PyObject* self, PyObject*);
    static PyObject* cancel_thread_safe(PyObject* self, PyObject*);
    static PyObject* cancelled_thread_safe(PyObject* self, PyObject*);
    static PyObject* run_thread_safe(PyObject* self, PyObject*);

    static bool is_of(const Kind& kind, PyObject* handle) {
        return reinterpret_cast<PyObject*>(Py_TYPE(handle)) == kind.type.get();
    }

    static PyObject*& slot(PyObject* handle, Py_ssize_t offset) {
        return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(handle) + offset);
    }
    // The old value goes last: its finalizer may look at the handle.
    static void set(PyObject* handle, Py_ssize_t offset, PyObject* value) {
        py::Ref old = py::Ref::steal(std::exchange(slot(handle, offset), Py_XNewRef(value)));
    }
    template <class F>
    void each_slot(F f) const {
        for (Py_ssize_t offset :
             {callback_, args_, cancelled_, loop_, source_traceback_, repr_, context_})
            f(offset);
    }
    [[nodiscard]] bool find_slots(PyObject* handle, PyObject* timer);
    [[nodiscard]] bool make_type(Kind& kind, PyObject* module, PyObject* base, const char* name,
                                 size_t extra, PyMethodDef* methods);
    LoopBase* loop_of(PyObject* handle, const State& state) const;
    py::Ref make_of(Kind& kind, PyObject* loop, PyObject* callback, PyObject* args,
                    PyObject* context);
    static PyObject* allocate(Kind& kind);
    [[nodiscard]] bool fill(PyObject* self, PyObject* loop, PyObject* callback, PyObject* args,
                            PyObject* context) const;

    // Where asyncio's classes keep their attributes, in bytes from the object's start.
    Py_ssize_t callback_, args_, cancelled_, loop_, source_traceback_, repr_, context_;
    Py_ssize_t scheduled_, when_, lock_, weakrefs_, timer_part_;
    py::Ref base_;             // asyncio.Handle
    py::Ref cancel_in_debug_;  // asyncio.Handle.cancel, which keeps a repr
    py::Ref run_in_debug_;     // asyncio.Handle._run
    Kind handle_, timer_;
    Kind thread_safe_;  // no type before Python 3.14
};

}  // namespace pyev::aio
