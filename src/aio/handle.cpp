// asyncio's handles, made natively.
#include "aio/handle.hpp"

#include <structmember.h>

#include "aio/loop_base.hpp"
#include "aio/state.hpp"
#include "py/call.hpp"

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

bool HandleTypes::init(PyObject* module) {
    Ref events = Ref::steal(PyImport_ImportModule("asyncio.events"));
    Ref handle, timer;
    if (events) handle = Ref::steal(PyObject_GetAttrString(events.get(), "Handle"));
    if (handle) timer = Ref::steal(PyObject_GetAttrString(events.get(), "TimerHandle"));
    if (!timer || !find_slots(handle.get(), timer.get())) return false;
    base_ = handle;
    cancel_in_debug_ = Ref::steal(PyObject_GetAttrString(handle.get(), "cancel"));
    if (!cancel_in_debug_) return false;
    static PyMethodDef methods[] = {
        {"cancel", cancel, METH_NOARGS,
         "cancel($self, /)\n--\n\nCancel the callback: it will not be called. asyncio.Handle."},
        {nullptr, nullptr, 0, nullptr},
    };
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
    Py_ssize_t size = reinterpret_cast<PyTypeObject*>(handle.get())->tp_basicsize;
    timer_part_ = reinterpret_cast<PyTypeObject*>(timer.get())->tp_basicsize;
    PyType_Spec spec = {"pyev.Handle", static_cast<int>(size), 0, flags, slots};
    handle_ = Ref::steal(PyType_FromModuleAndSpec(module, &spec, handle.get()));
    PyType_Spec timer_spec = {"pyev.TimerHandle", static_cast<int>(timer_part_ + sizeof(TimerPart)),
                              0, flags, slots};
    timer_ = Ref::steal(PyType_FromModuleAndSpec(module, &timer_spec, timer.get()));
    return handle_ && timer_;
}

void HandleTypes::clear() {
    while (spare_handle_count_) PyObject_GC_Del(spare_handles_[--spare_handle_count_]);
    while (spare_timer_count_) PyObject_GC_Del(spare_timers_[--spare_timer_count_]);
    each_ref([](Ref& ref) { ref = Ref(); });
}

HandleTypes* HandleTypes::of(PyTypeObject* type) {
    State* state = State::of_type(type);
    return state ? &state->handles : nullptr;
}

PyObject* HandleTypes::allocate(PyTypeObject* type, PyObject** spares, int& count) {
    if (!count) return PyType_GenericAlloc(type, 0);
    PyObject* self = PyObject_Init(spares[--count], type);
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

Ref HandleTypes::make(PyObject* loop, PyObject* callback, PyObject* args, PyObject* context) {
    auto* type = reinterpret_cast<PyTypeObject*>(handle_.get());
    Ref self = Ref::steal(allocate(type, spare_handles_, spare_handle_count_));
    if (!self || !fill(self.get(), loop, callback, args, context)) return {};
    return self;
}

Ref HandleTypes::make_timer(PyObject* loop, PyObject* when, double time, PyObject* callback,
                            PyObject* args, PyObject* context) {
    auto* type = reinterpret_cast<PyTypeObject*>(timer_.get());
    Ref self = Ref::steal(allocate(type, spare_timers_, spare_timer_count_));
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
    if (PyContext_Enter(context.get()) < 0) return {};
    Ref result = Ref::steal(
        PyObject_Vectorcall(callback.get(), reinterpret_cast<PyTupleObject*>(args.get())->ob_item,
                            PyTuple_GET_SIZE(args.get()), nullptr));
    if (result) {
        if (PyContext_Exit(context.get()) < 0) return {};
    } else {
        py::ErrorGuard guard;
        if (PyContext_Exit(context.get()) < 0) PyErr_Clear();
    }
    return result;
}

PyObject* HandleTypes::cancel(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (!state) return nullptr;
    HandleTypes* types = &state->handles;
    if (types->cancelled(self)) Py_RETURN_NONE;
    Ref keep = Ref::borrow(self);
    PyObject* owner = slot(self, types->loop_);
    auto* loop_base = reinterpret_cast<PyTypeObject*>(state->loop_base.get());
    bool ours = owner && loop_base && PyObject_TypeCheck(owner, loop_base);
    LoopBase* loop = ours ? py::value_of<LoopBase>(owner) : nullptr;
    if (loop && Py_IS_TYPE(self, reinterpret_cast<PyTypeObject*>(types->timer_.get())))
        loop->forget_timer(self);
    if (loop && loop->debug()) return py::call(types->cancel_in_debug_.get(), self).release();
    set(self, types->cancelled_, Py_True);
    set(self, types->callback_, Py_None);
    set(self, types->args_, Py_None);
    Py_RETURN_NONE;
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
        bool is_timer = reinterpret_cast<PyObject*>(type) == types->timer_.get();
        clear_handle(self);
        if (is_timer) {
            set(self, types->when_, nullptr);
            set(self, types->scheduled_, nullptr);
        }
        PyObject** spares = is_timer ? types->spare_timers_ : types->spare_handles_;
        int& count = is_timer ? types->spare_timer_count_ : types->spare_handle_count_;
        if (types->handle_ && count < kSpares) {
            spares[count++] = self;
            return;
        }
    }
    PyObject_GC_Del(self);
}

}  // namespace pyev::aio
