// asyncio's handles, made natively.
//
// A native handle is a subclass of asyncio.Handle (or TimerHandle), so isinstance, repr and whoever
// looks inside find what they know. But what nearly all handles have alike (not cancelled, no
// traceback, a copy of the current context), and a few arguments, are kept in a part of its own and
// become objects when somebody asks. Making, running, cancelling and freeing one are native. Freed
// ones are kept for the next.
//
// Without a GIL none are kept, the garbage collector knows each, and whoever looks into one that
// others may have too locks it, as asyncio's own attributes do.
//
// With one, while its loop runs, a queued handle is not known to the garbage collector: the loop is
// in use, and so is all that it reaches. Whoever takes a handle off a queue, or leaves it there
// when the loop stops, calls `track` for one that lives on.
#pragma once

#include <Python.h>

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "py/call.hpp"
#include "py/context.hpp"
#include "py/lock.hpp"
#include "py/ref.hpp"

namespace pyev::aio {

class LoopBase;
class State;

// Arguments, borrowed.
struct Values {
    PyObject* const* items;
    Py_ssize_t count;
};

// Behind the slots of asyncio's class.
struct HandlePart {
    // Most callbacks have no more; others have a tuple in the slot _args.
    static constexpr int kValues = 3;

    PyObject* vars;             // what its context is a copy of, while nobody has asked; owned
    PyObject* room;             // before the values, for whoever is called with them
    PyObject* values[kValues];  // owned
    uint8_t count;              // of values
    bool cancelled;
    bool unusual;  // slots are in use that most handles leave empty
};

// Behind that, in a timer's.
struct TimerPart {
    double when;
    Py_ssize_t index;  // where its loop's Timers keep it, if they do
};

class HandleTypes {
    struct Kind;

 public:
    ~HandleTypes() { clear(); }

    [[nodiscard]] bool init(PyObject* module);
    void clear();
    template <class F>
    void each_ref(F f) {
        f(base_);
        f(cancel_name_);
        f(cancel_in_debug_);
        f(run_in_debug_);
        contexts_.each_ref(f);
        for (Kind* kind : {&handle_, &timer_, &thread_safe_}) f(kind->type);
    }

    // Not tracked yet; empty on failure. A null `context` is a copy of the current one.
    py::Ref make(PyObject* loop, PyObject* callback, Values values, PyObject* context) {
        return make_of(handle_, loop, callback, values, context);
    }
    // For any thread to cancel, as far as this Python's asyncio has handles of that kind.
    py::Ref make_thread_safe(PyObject* loop, PyObject* callback, Values values, PyObject* context) {
        return make_of(thread_safe_.type ? thread_safe_ : handle_, loop, callback, values, context);
    }
    // A null `when` is the float of `time`.
    py::Ref make_timer(PyObject* loop, PyObject* when, double time, PyObject* callback,
                       Values values, PyObject* context);
    static void track(PyObject* handle) {
        if (!PyObject_GC_IsTracked(handle)) PyObject_GC_Track(handle);
    }

    bool ready() const { return static_cast<bool>(timer_.type); }
    // Of this or asyncio's own making: both have the slots.
    bool is_handle(PyObject* object) const {
        return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(base_.get()));
    }
    TimerPart& timer(PyObject* handle) const {
        return *reinterpret_cast<TimerPart*>(&part(timer_, handle) + 1);
    }
    // Of this making: asyncio's own have a lock.
    bool is_thread_safe(PyObject* handle) const { return is_of(thread_safe_, handle); }
    // Of any asyncio.Handle.
    bool cancelled(PyObject* handle) const {
        py::Lock lock(handle);
        const Kind* kind = kind_of(handle);
        return kind ? part(*kind, handle).cancelled : slot(handle, cancelled_) == Py_True;
    }
    // Calls the callback in its context.
    py::Ref run(PyObject* handle);
    // handle.cancel()
    py::Ref call_cancel(PyObject* handle) const {
        return py::call_method(handle, cancel_name_.get());
    }
    void set_source_traceback(PyObject* handle, PyObject* traceback) {
        set_unusual(handle, source_traceback_, traceback);
    }

    // What was in a handle that nobody else had a reference to: its memory serves the next one
    // while it runs.
    class Content {
     public:
        // Takes `handle` over if it can, else leaves it alone.
        Content(HandleTypes& types, py::Ref& handle);
        Content(const Content&) = delete;
        ~Content() {
            if (kind_) clear();
        }

        explicit operator bool() const { return kind_ != nullptr; }
        bool cancelled() const { return part_.cancelled; }
        py::Ref run();
        // A handle again, to be reported.
        py::Ref as_handle();

     private:
        void clear();

        HandleTypes& types_;
        Kind* kind_ = nullptr;
        PyObject *callback_, *loop_, *context_;
        double when_ = 0;
        HandlePart part_;
    };

 private:
    // As many as a busy turn has, in a quarter of a megabyte.
    static constexpr int kSpares = 1024;

    struct Kind {
        py::Ref type;
        PyTypeObject* object_type = nullptr;  // the same, as long as handles may live
        Py_ssize_t part = 0;                  // offset of the HandlePart
        PyObject* spares[kSpares];
        int count = 0;
    };

    static HandleTypes* of(PyTypeObject* type);
    static void dealloc(PyObject* self);
    static void end(PyObject* self);
    static int traverse(PyObject* self, visitproc visit, void* arg);
    static int clear_handle(PyObject* self);
    static PyObject* cancel(PyObject* self, PyObject*);
    [[nodiscard]] static bool wait_for(PyObject* handle, State* state);
    static PyObject* cancel_thread_safe(PyObject* self, PyObject*);
    static PyObject* cancelled_thread_safe(PyObject* self, PyObject*);
    static PyObject* run_thread_safe(PyObject* self, PyObject*);
    // One of the slots.
    struct Attribute {
        Py_ssize_t HandleTypes::* offset;
        py::Ref (*implied)(HandleTypes& types, PyObject* self);  // while it is empty
    };
    static PyObject* get_attribute(PyObject* self, void* attribute);
    static int set_attribute(PyObject* self, PyObject* value, void* attribute);
    static py::Ref get_args(HandleTypes& types, PyObject* self);
    static py::Ref get_context(HandleTypes& types, PyObject* self);
    static py::Ref get_cancelled(HandleTypes& types, PyObject* self);
    static py::Ref get_nothing(HandleTypes& types, PyObject* self);
    static py::Ref get_when(HandleTypes& types, PyObject* self);
    static py::Ref get_scheduled(HandleTypes& types, PyObject* self);

    static bool is_of(const Kind& kind, PyObject* handle) {
        return Py_TYPE(handle) == kind.object_type;
    }
    // Null for asyncio's own.
    const Kind* kind_of(PyObject* handle) const {
        for (const Kind* kind : {&handle_, &timer_, &thread_safe_})
            if (is_of(*kind, handle)) return kind;
        return nullptr;
    }
    Kind* kind_of(PyObject* handle) {
        return const_cast<Kind*>(std::as_const(*this).kind_of(handle));
    }
    static HandlePart& part(const Kind& kind, PyObject* handle) {
        return *reinterpret_cast<HandlePart*>(reinterpret_cast<char*>(handle) + kind.part);
    }

    static PyObject*& slot(PyObject* handle, Py_ssize_t offset) {
        return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(handle) + offset);
    }
    // The old value goes last: its finalizer may look at the handle.
    static void set(PyObject* handle, Py_ssize_t offset, PyObject* value) {
        py::Ref old = py::Ref::steal(std::exchange(slot(handle, offset), Py_XNewRef(value)));
    }
    void set_unusual(PyObject* handle, Py_ssize_t offset, PyObject* value) {
        if (Kind* kind = kind_of(handle)) part(*kind, handle).unusual = true;
        set(handle, offset, value);
    }
    static void drop_values(HandlePart& part);
    void empty(Kind& kind, PyObject* handle);
    void spare(Kind& kind, PyObject* handle);
    // But for the weak references.
    template <class F>
    void each_slot(const Kind& kind, PyObject* handle, F f) const {
        for (Py_ssize_t offset : {callback_, loop_, context_}) f(offset);
        if (part(kind, handle).unusual)
            for (Py_ssize_t offset : {args_, cancelled_, source_traceback_, repr_}) f(offset);
        if (&kind == &timer_)
            for (Py_ssize_t offset : {when_, scheduled_}) f(offset);
        if (&kind == &thread_safe_) f(lock_);
    }
    [[nodiscard]] bool find_slots(PyObject* handle, PyObject* timer);
    [[nodiscard]] bool make_type(Kind& kind, PyObject* module, PyObject* base, const char* name,
                                 size_t extra, PyMethodDef* methods, PyGetSetDef* getset);
    LoopBase* loop_of(PyObject* handle, const State& state, py::Ref* keep) const;
    py::Ref make_of(Kind& kind, PyObject* loop, PyObject* callback, Values values,
                    PyObject* context);
    static PyObject* allocate(Kind& kind);
    [[nodiscard]] bool fill(Kind& kind, PyObject* self, PyObject* loop, PyObject* callback,
                            Values values, PyObject* context);
    static py::Ref call(PyObject* callback, PyObject* const* values, size_t count,
                        PyObject* context);

    // Where asyncio's classes keep their attributes, in bytes from the object's start.
    Py_ssize_t callback_, args_, cancelled_, loop_, source_traceback_, repr_, context_;
    Py_ssize_t scheduled_, when_, lock_, weakrefs_;
    py::Ref base_;  // asyncio.Handle
    py::Ref cancel_name_;
    py::Ref cancel_in_debug_;  // asyncio.Handle.cancel, which keeps a repr
    py::Ref run_in_debug_;     // asyncio.Handle._run
    py::Contexts contexts_;
    Kind handle_, timer_;
    Kind thread_safe_;  // no type before Python 3.14
};

}  // namespace pyev::aio
