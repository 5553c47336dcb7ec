// asyncio's handles, made natively.
#include "aio/handle.hpp"

#include <structmember.h>

#include "aio/loop_base.hpp"
#include "aio/state.hpp"
#include "py/call.hpp"
#include "py/context.hpp"

namespace pyev::aio {

using py::Ref;

// The offset of one of a class's __slots__.
static bool find_slot(PyObject* type, const char* name, Py_ssize_t& offset) {
    Ref descriptor = Ref::steal(PyObject_GetAttrString(type, name));
    if (!descriptor) return false;
    if (!Py_IS_TYPE(descriptor.get(), &PyMemberDescr_Type))
        return py::raise(PyExc_ImportError, "asyncio's handles have no slot '%s'", name);
    offset = reinterpret_cast<PyMemberDescrObject*>(descriptor.get())->d_member->offset;
    return true;
}

bool HandleTypes::find_slots(PyObject* handle, PyObject* timer) {
    weakrefs_ = reinterpret_cast<PyTypeObject*>(handle)->tp_weaklistoffset;
    return find_slot(handle, "_callback", callback_) && find_slot(handle, "_args", args_) &&
           find_slot(handle, "_cancelled", cancelled_) && find_slot(handle, "_loop", loop_) &&
           find_slot(handle, "_source_traceback", source_traceback_) &&
           find_slot(handle, "_repr", repr_) && find_slot(handle, "_context", context_) &&
           find_slot(timer, "_scheduled", scheduled_) && find_slot(timer, "_when", when_);
}

bool HandleTypes::make_type(Kind& kind, PyObject* module, PyObject* base, const char* name,
                            size_t extra, PyMethodDef* methods) {
    PyType_Slot slots[] = {
        {Py_tp_methods, methods},
        {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
        {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
        {Py_tp_clear, reinterpret_cast<void*>(clear_handle)},
        {0, nullptr},
    };
    // Python 3.14 refuses an immutable type whose base is not.
    constexpr unsigned flags = (py::kTypeFlags & ~static_cast<unsigned>(Py_TPFLAGS_IMMUTABLETYPE)) |
                               Py_TPFLAGS_DISALLOW_INSTANTIATION;
    auto size = static_cast<size_t>(reinterpret_cast<PyTypeObject*>(base)->tp_basicsize);
    PyType_Spec spec = {name, static_cast<int>(size + extra), 0, flags, slots};
    kind.type = Ref::steal(PyType_FromModuleAndSpec(module, &spec, base));
    return static_cast<bool>(kind.type);
}

bool HandleTypes::init(PyObject* module) {
    Ref events = Ref::steal(PyImport_ImportModule("asyncio.events"));
    Ref handle, timer, thread_safe;
    if (events) handle = Ref::steal(PyObject_GetAttrString(events.get(), "Handle"));
    if (handle) timer = Ref::steal(PyObject_GetAttrString(events.get(), "TimerHandle"));
    if (!timer || !find_slots(handle.get(), timer.get())) return false;
    base_ = handle;
    cancel_in_debug_ = Ref::steal(PyObject_GetAttrString(handle.get(), "cancel"));
    if (!cancel_in_debug_) return false;
    run_in_debug_ = Ref::steal(PyObject_GetAttrString(handle.get(), "_run"));
    if (!run_in_debug_) return false;
    static constexpr const char* kCancelDoc =
        "cancel($self, /)\n--\n\nCancel the callback: it will not be called. asyncio.Handle.";
    static PyMethodDef methods[] = {
        {"cancel", cancel, METH_NOARGS, kCancelDoc},
        {nullptr, nullptr, 0, nullptr},
    };
    static PyMethodDef thread_safe_methods[] = {
        {"cancel", cancel_thread_safe, METH_NOARGS, kCancelDoc},
        {"cancelled", cancelled_thread_safe, METH_NOARGS,
         "cancelled($self, /)\n--\n\nWhether it was cancelled. asyncio.Handle."},
        {"_run", run_thread_safe, METH_NOARGS, "_run($self, /)\n--\n\nasyncio's hook."},
        {nullptr, nullptr, 0, nullptr},
    };
    timer_part_ = reinterpret_cast<PyTypeObject*>(timer.get())->tp_basicsize;
    if (!make_type(handle_, module, handle.get(), "pyev.Handle", 0, methods) ||
        !make_type(timer_, module, timer.get(), "pyev.TimerHandle", sizeof(TimerPart), methods))
        return false;
    thread_safe = Ref::steal(PyObject_GetAttrString(events.get(), "_ThreadSafeHandle"));
    if (!thread_safe) {
        PyErr_Clear();
        return true;
    }
    return find_slot(thread_safe.get(), "_lock", lock_) &&
           make_type(thread_safe_, module, thread_safe.get(), "pyev.ThreadSafeHandle", 0,
                     thread_safe_methods);
}

void HandleTypes::clear() {
    for (Kind* kind : {&handle_, &timer_, &thread_safe_})
        while (kind->count) PyObject_GC_Del(kind->spares[--kind->count]);
    each_ref([](Ref& ref) { ref = Ref(); });
}

HandleTypes* HandleTypes::of(PyTypeObject* type) {
    State* state = State::of_type(type);
    return state ? &state->handles : nullptr;
}

PyObject* HandleTypes::allocate(Kind& kind) {
    auto* type = reinterpret_cast<PyTypeObject*>(kind.type.get());
    if (!kind.count) return PyType_GenericAlloc(type, 0);
    PyObject* self = PyObject_Init(kind.spares[--kind.count], type);
    PyObject_GC_Track(self);
    return self;
}

bool HandleTypes::fill(PyObject* self, PyObject* loop, PyObject* callback, PyObject* args,
                       PyObject* context) const {
    slot(self, callback_) = Py_NewRef(callback);
    slot(self, args_) = Py_NewRef(args);
    slot(self, cancelled_) = Py_NewRef(Py_False);
    slot(self, loop_) = Py_NewRef(loop);
    slot(self, source_traceback_) = Py_NewRef(Py_None);
    slot(self, repr_) = Py_NewRef(Py_None);
    slot(self, context_) = context ? Py_NewRef(context) : PyContext_CopyCurrent();
    return slot(self, context_) != nullptr;
}

Ref HandleTypes::make_of(Kind& kind, PyObject* loop, PyObject* callback, PyObject* args,
                         PyObject* context) {
    Ref self = Ref::steal(allocate(kind));
    if (!self || !fill(self.get(), loop, callback, args, context)) return {};
    return self;
}

Ref HandleTypes::make_timer(PyObject* loop, PyObject* when, double time, PyObject* callback,
                            PyObject* args, PyObject* context) {
    Ref self = Ref::steal(allocate(timer_));
    if (!self) return {};
    timer(self.get()) = {time, -1};
    slot(self.get(), when_) = Py_NewRef(when);
    slot(self.get(), scheduled_) = Py_NewRef(Py_True);
    if (!fill(self.get(), loop, callback, args, context)) return {};
    return self;
}

Ref HandleTypes::run(PyObject* handle) const {
    Ref callback = Ref::borrow(slot(handle, callback_));
    Ref args = Ref::borrow(slot(handle, args_));
    Ref context = Ref::borrow(slot(handle, context_));
    // Its attributes can be set and deleted from Python.
    if (!callback || !args || !context || !PyTuple_Check(args.get()))
        return py::raise(PyExc_RuntimeError, "a handle without a callback cannot run");
    py::InContext entered(context.get());
    if (!entered) return {};
    return Ref::steal(PyObject_Vectorcall(callback.get(),
                                          reinterpret_cast<PyTupleObject*>(args.get())->ob_item,
                                          PyTuple_GET_SIZE(args.get()), nullptr));
}

// Its event loop, if that is one of ours.
LoopBase* HandleTypes::loop_of(PyObject* handle, const State& state) const {
    PyObject* loop = slot(handle, loop_);
    auto* type = reinterpret_cast<PyTypeObject*>(state.loop_base.get());
    return loop && type && PyObject_TypeCheck(loop, type) ? py::value_of<LoopBase>(loop) : nullptr;
}

PyObject* HandleTypes::cancel(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (!state) return nullptr;
    HandleTypes* types = &state->handles;
    if (types->cancelled(self)) Py_RETURN_NONE;
    Ref keep = Ref::borrow(self);
    LoopBase* loop = types->loop_of(self, *state);
    if (loop && is_of(types->timer_, self)) loop->forget_timer(self);
    if (loop && loop->debug()) return py::call(types->cancel_in_debug_.get(), self).release();
    set(self, types->cancelled_, Py_True);
    set(self, types->callback_, Py_None);
    set(self, types->args_, Py_None);
    Py_RETURN_NONE;
}

// Not while another thread runs it.
static bool wait_for(LoopBase* loop, PyObject* handle) {
    if (!loop) return true;
    Ref keep = Ref::borrow(loop->object()), keep_handle = Ref::borrow(handle);
    return loop->current().wait(handle);
}

PyObject* HandleTypes::cancel_thread_safe(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (!state || !wait_for(state->handles.loop_of(self, *state), self)) return nullptr;
    return cancel(self, nullptr);
}

PyObject* HandleTypes::cancelled_thread_safe(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (!state || !wait_for(state->handles.loop_of(self, *state), self)) return nullptr;
    return PyBool_FromLong(state->handles.cancelled(self));
}

PyObject* HandleTypes::run_thread_safe(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (!state) return nullptr;
    HandleTypes* types = &state->handles;
    LoopBase* loop = types->loop_of(self, *state);
    if (!loop) return py::call(types->run_in_debug_.get(), self).release();
    Ref keep = Ref::borrow(loop->object()), keep_handle = Ref::borrow(self);
    Current::Run run(loop->current(), self);
    return py::call(types->run_in_debug_.get(), self).release();
}

int HandleTypes::traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    HandleTypes* types = of(Py_TYPE(self));
    if (!types) return PyErr_Clear(), 0;
    int result = 0;
    types->each_slot([&](Py_ssize_t offset) {
        if (result == 0 && slot(self, offset)) result = visit(slot(self, offset), arg);
    });
    return result;
}

int HandleTypes::clear_handle(PyObject* self) {
    HandleTypes* types = of(Py_TYPE(self));
    if (!types) return PyErr_Clear(), 0;
    types->each_slot([&](Py_ssize_t offset) { set(self, offset, nullptr); });
    return 0;
}

void HandleTypes::dealloc(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    Ref type_ref = Ref::steal(reinterpret_cast<PyObject*>(type));  // the instance's own
    PyObject_GC_UnTrack(self);
    HandleTypes* types = of(type);
    if (!types) {
        PyErr_Clear();
    } else {
        if (slot(self, types->weakrefs_)) PyObject_ClearWeakRefs(self);
        Kind* kind = &types->handle_;
        clear_handle(self);
        if (is_of(types->timer_, self)) {
            kind = &types->timer_;
            set(self, types->when_, nullptr);
            set(self, types->scheduled_, nullptr);
        } else if (is_of(types->thread_safe_, self)) {
            kind = &types->thread_safe_;
            set(self, types->lock_, nullptr);
        }
        if (kind->type && kind->count < kSpares) {
            kind->spares[kind->count++] = self;
            return;
        }
    }
    PyObject_GC_Del(self);
}

}  // namespace pyev::aio
