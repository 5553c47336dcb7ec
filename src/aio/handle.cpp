// asyncio's handles, made natively.
#include "aio/handle.hpp"

#include <structmember.h>

#include <cstring>

#include "aio/loop_base.hpp"
#include "aio/state.hpp"
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
                            size_t extra, PyMethodDef* methods, PyGetSetDef* getset) {
    PyType_Slot slots[] = {
        {Py_tp_methods, methods},
        {Py_tp_getset, getset},
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
    kind.object_type = reinterpret_cast<PyTypeObject*>(kind.type.get());
    kind.part = static_cast<Py_ssize_t>(size);
    return static_cast<bool>(kind.type);
}

bool HandleTypes::init(PyObject* module) {
    Ref events = Ref::steal(PyImport_ImportModule("asyncio.events"));
    Ref handle, timer, thread_safe;
    if (events) handle = Ref::steal(PyObject_GetAttrString(events.get(), "Handle"));
    if (handle) timer = Ref::steal(PyObject_GetAttrString(events.get(), "TimerHandle"));
    if (!timer || !find_slots(handle.get(), timer.get()) || !contexts_.init()) return false;
    base_ = handle;
    cancel_name_ = Ref::steal(PyUnicode_InternFromString("cancel"));
    if (!cancel_name_) return false;
    cancel_in_debug_ = Ref::steal(PyObject_GetAttr(handle.get(), cancel_name_.get()));
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
    static Attribute args = {&HandleTypes::args_, get_args};
    static Attribute context = {&HandleTypes::context_, get_context};
    static Attribute cancelled = {&HandleTypes::cancelled_, get_cancelled};
    static Attribute traceback = {&HandleTypes::source_traceback_, get_nothing};
    static Attribute repr = {&HandleTypes::repr_, get_nothing};
    static Attribute when = {&HandleTypes::when_, get_when};
    static Attribute scheduled = {&HandleTypes::scheduled_, get_scheduled};
    static PyGetSetDef timer_attributes[] = {
        {"_when", get_attribute, set_attribute, nullptr, &when},
        {"_scheduled", get_attribute, set_attribute, nullptr, &scheduled},
        {"_args", get_attribute, set_attribute, nullptr, &args},
        {"_context", get_attribute, set_attribute, nullptr, &context},
        {"_cancelled", get_attribute, set_attribute, nullptr, &cancelled},
        {"_source_traceback", get_attribute, set_attribute, nullptr, &traceback},
        {"_repr", get_attribute, set_attribute, nullptr, &repr},
        {nullptr, nullptr, nullptr, nullptr, nullptr},
    };
    static PyGetSetDef* attributes = timer_attributes + 2;
    if (!make_type(handle_, module, handle.get(), "pyev.Handle", sizeof(HandlePart), methods,
                   attributes) ||
        !make_type(timer_, module, timer.get(), "pyev.TimerHandle",
                   sizeof(HandlePart) + sizeof(TimerPart), methods, timer_attributes))
        return false;
    thread_safe = Ref::steal(PyObject_GetAttrString(events.get(), "_ThreadSafeHandle"));
    if (!thread_safe) {
        PyErr_Clear();
        return true;
    }
    return find_slot(thread_safe.get(), "_lock", lock_) &&
           make_type(thread_safe_, module, thread_safe.get(), "pyev.ThreadSafeHandle",
                     sizeof(HandlePart), thread_safe_methods, attributes);
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

// Making one.

PyObject* HandleTypes::allocate(Kind& kind) {
    PyTypeObject* type = kind.object_type;
    if (py::kHasGil && kind.count) {
        // All zeros, and with one reference, but for that to its type.
        Ref::borrow(kind.type.get()).release();
        return kind.spares[--kind.count];
    }
    PyObject* self = PyObject_GC_New(PyObject, type);
    if (self)
        std::memset(reinterpret_cast<char*>(self) + sizeof(PyObject), 0,
                    static_cast<size_t>(type->tp_basicsize) - sizeof(PyObject));
    return self;
}

// The opposite: `self` has been emptied.
void HandleTypes::spare(Kind& kind, PyObject* self) {
    Ref type = Ref::steal(reinterpret_cast<PyObject*>(kind.object_type));  // the instance's own
    if (py::kHasGil && kind.type && kind.count < kSpares)
        kind.spares[kind.count++] = self;
    else
        PyObject_GC_Del(self);
}

bool HandleTypes::fill(Kind& kind, PyObject* self, PyObject* loop, PyObject* callback,
                       Values values, PyObject* context) {
    slot(self, callback_) = Py_NewRef(callback);
    slot(self, loop_) = Py_NewRef(loop);
    HandlePart& own = part(kind, self);
    if (values.count <= HandlePart::kValues) {
        own.count = static_cast<uint8_t>(values.count);
        for (Py_ssize_t i = 0; i < values.count; ++i) own.values[i] = Py_NewRef(values.items[i]);
    } else {
        own.unusual = true;
        slot(self, args_) = PyTuple_New(values.count);
        if (!slot(self, args_)) return false;
        for (Py_ssize_t i = 0; i < values.count; ++i)
            PyTuple_SET_ITEM(slot(self, args_), i, Py_NewRef(values.items[i]));
    }
    if (!context) {
        own.vars = contexts_.current();
        if (own.vars) return true;
    }
    slot(self, context_) = context ? Py_NewRef(context) : PyContext_CopyCurrent();
    return slot(self, context_) != nullptr;
}

Ref HandleTypes::make_of(Kind& kind, PyObject* loop, PyObject* callback, Values values,
                         PyObject* context) {
    Ref self = Ref::steal(allocate(kind));
    if (!self || !fill(kind, self.get(), loop, callback, values, context)) return {};
    if constexpr (!py::kHasGil) track(self.get());
    return self;
}

Ref HandleTypes::make_timer(PyObject* loop, PyObject* when, double time, PyObject* callback,
                            Values values, PyObject* context) {
    Ref self = Ref::steal(allocate(timer_));
    if (!self) return {};
    timer(self.get()) = {time, 0};
    if (when) slot(self.get(), when_) = Py_NewRef(when);
    if (!fill(timer_, self.get(), loop, callback, values, context)) return {};
    if constexpr (!py::kHasGil) track(self.get());
    return self;
}

// Running one.

// `values` have room before them.
Ref HandleTypes::call(PyObject* callback, PyObject* const* values, size_t count,
                      PyObject* context) {
    py::InContext entered(context);
    if (!entered) return {};
    return Ref::steal(
        PyObject_Vectorcall(callback, values, count | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
}

Ref HandleTypes::run(PyObject* handle) {
    py::Lock lock(handle);
    if (!py::kHasGil && cancelled(handle)) return Ref::none();
    Ref callback = Ref::borrow(slot(handle, callback_));
    Ref args = Ref::borrow(slot(handle, args_));
    Kind* kind = kind_of(handle);
    Ref context = kind ? get_context(*this, handle) : Ref::borrow(slot(handle, context_));
    // Its attributes can be set and deleted from Python.
    bool whole = callback && context && (args ? PyTuple_Check(args.get()) : kind != nullptr);
    if (!whole) {
        PyErr_Clear();
        return py::raise(PyExc_RuntimeError, "a handle without a callback cannot run");
    }
    if (!args) {
        HandlePart& own = part(*kind, handle);
        size_t count = own.count;
        PyObject* values[1 + HandlePart::kValues];
        Ref kept[HandlePart::kValues];  // it may be cancelled meanwhile
        for (size_t i = 0; i < count; ++i) {
            kept[i] = Ref::borrow(own.values[i]);
            values[1 + i] = own.values[i];
        }
        lock.end();
        return call(callback.get(), values + 1, count, context.get());
    }
    lock.end();
    py::InContext entered(context.get());
    if (!entered) return {};
    return Ref::steal(PyObject_Vectorcall(callback.get(),
                                          reinterpret_cast<PyTupleObject*>(args.get())->ob_item,
                                          PyTuple_GET_SIZE(args.get()), nullptr));
}

HandleTypes::Content::Content(HandleTypes& types, Ref& handle) : types_(types) {
    PyObject* self = handle.get();
    if (!py::unshared(self)) return;
    Kind* kind = types.kind_of(self);
    if (!kind || slot(self, types.weakrefs_)) return;
    HandlePart& own = part(*kind, self);
    // Some code may have deleted what cannot be missing from a handle that is made again.
    if (own.unusual || !slot(self, types.callback_) || !slot(self, types.loop_)) return;
    if (kind == &types.timer_) {
        when_ = types.timer(self).when;
        set(self, types.when_, nullptr);
    } else if (kind == &types.thread_safe_ && slot(self, types.lock_)) {
        return;
    }
    if (PyObject_GC_IsTracked(self)) PyObject_GC_UnTrack(self);
    kind_ = kind;
    callback_ = std::exchange(slot(self, types.callback_), nullptr);
    loop_ = std::exchange(slot(self, types.loop_), nullptr);
    context_ = std::exchange(slot(self, types.context_), nullptr);
    part_ = std::exchange(own, HandlePart{});
    types.spare(*kind, handle.release());
}

void HandleTypes::Content::clear() {
    Ref callback = Ref::steal(callback_), loop = Ref::steal(loop_);
    Ref context = Ref::steal(context_);
    drop_values(part_);
    Ref vars = Ref::steal(part_.vars);
}

Ref HandleTypes::Content::run() {
    if (!callback_ || !(context_ || part_.vars))
        return py::raise(PyExc_RuntimeError, "a handle without a callback cannot run");
    if (context_) return call(callback_, part_.values, part_.count, context_);
    Ref context = types_.contexts_.lend(part_.vars);
    if (!context) return {};
    Ref result = call(callback_, part_.values, part_.count, context.get());
    if (result)
        types_.contexts_.give_back(std::move(context));
    else
        context_ = context.release();
    return result;
}

Ref HandleTypes::Content::as_handle() {
    Ref self = Ref::steal(allocate(*kind_));
    if (!self) return {};
    if (kind_ == &types_.timer_) types_.timer(self.get()) = {when_, 0};
    if (!types_.fill(*kind_, self.get(), loop_, callback_, {part_.values, part_.count}, context_))
        return {};
    track(self.get());
    return self;
}

// What asyncio's class has in its slots.

Ref HandleTypes::get_args(HandleTypes& types, PyObject* self) {
    HandlePart& own = part(*types.kind_of(self), self);
    // asyncio's cancel() in debug mode says so first, and then looks at them for its repr.
    if (own.cancelled && !own.count) return Ref::none();
    Ref args = Ref::steal(PyTuple_New(own.count));
    if (!args) return {};
    for (int i = 0; i < own.count; ++i) PyTuple_SET_ITEM(args.get(), i, Py_NewRef(own.values[i]));
    types.set_unusual(self, types.args_, args.get());
    return args;
}

Ref HandleTypes::get_context(HandleTypes& types, PyObject* self) {
    PyObject*& context = slot(self, types.context_);
    if (context) return Ref::borrow(context);
    HandlePart& own = part(*types.kind_of(self), self);
    if (!own.vars) return py::raise(PyExc_AttributeError, "_context");
    context = types.contexts_.make(own.vars).release();
    if (!context) return {};
    Ref vars = Ref::steal(std::exchange(own.vars, nullptr));
    return Ref::borrow(context);
}

Ref HandleTypes::get_cancelled(HandleTypes& types, PyObject* self) {
    return Ref::borrow(types.cancelled(self) ? Py_True : Py_False);
}

Ref HandleTypes::get_nothing(HandleTypes&, PyObject*) { return Ref::none(); }

Ref HandleTypes::get_when(HandleTypes& types, PyObject* self) {
    Ref when = Ref::steal(PyFloat_FromDouble(types.timer(self).when));
    if (when) set(self, types.when_, when.get());
    return when;
}

Ref HandleTypes::get_scheduled(HandleTypes& types, PyObject* self) {
    State* state = State::of_type(Py_TYPE(self));
    Ref keep;
    LoopBase* loop = state ? types.loop_of(self, *state, &keep) : nullptr;
    if (!loop) return Ref::borrow(Py_False);
    py::Locked locked(loop, true);
    return Ref::borrow(loop->holds_timer(self) ? Py_True : Py_False);
}

PyObject* HandleTypes::get_attribute(PyObject* self, void* closure) {
    auto* attribute = static_cast<Attribute*>(closure);
    HandleTypes* types = of(Py_TYPE(self));
    if (!types) return nullptr;
    py::Lock lock(self);
    if (PyObject* value = slot(self, types->*attribute->offset)) return Py_NewRef(value);
    return attribute->implied(*types, self).release();
}

int HandleTypes::set_attribute(PyObject* self, PyObject* value, void* closure) {
    auto* attribute = static_cast<Attribute*>(closure);
    HandleTypes* types = of(Py_TYPE(self));
    if (!types) return -1;
    Py_ssize_t offset = types->*attribute->offset;
    HandlePart& own = part(*types->kind_of(self), self);
    Ref keep = Ref::borrow(self);
    py::Lock lock(self);
    track(self);
    if (offset == types->cancelled_) own.cancelled = value == Py_True;
    types->set_unusual(self, offset, value);
    if (offset == types->args_) drop_values(own);
    if (offset == types->context_) Ref vars = Ref::steal(std::exchange(own.vars, nullptr));
    return 0;
}

// Its event loop, if that is one of ours. Where other threads may take it from the handle, `keep`
// has a reference.
LoopBase* HandleTypes::loop_of(PyObject* handle, const State& state, Ref* keep) const {
    py::Lock lock(handle);
    PyObject* loop = slot(handle, loop_);
    if (!py::kHasGil && keep) *keep = Ref::borrow(loop);
    auto* type = reinterpret_cast<PyTypeObject*>(state.loop_base.get());
    return loop && type && PyObject_TypeCheck(loop, type) ? py::value_of<LoopBase>(loop) : nullptr;
}

PyObject* HandleTypes::cancel(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (!state) return nullptr;
    HandleTypes* types = &state->handles;
    Kind* kind = types->kind_of(self);
    HandlePart& own = part(*kind, self);
    if (py::kHasGil && own.cancelled) Py_RETURN_NONE;
    Ref keep = Ref::borrow(self), keep_loop;
    track(self);
    LoopBase* loop = types->loop_of(self, *state, &keep_loop);
    if (loop && kind == &types->timer_) {
        py::Locked locked(loop, true);
        loop->forget_timer(self);
    }
    py::Lock lock(self);
    if (!py::kHasGil && own.cancelled) Py_RETURN_NONE;
    if (loop && loop->debug()) return py::call(types->cancel_in_debug_.get(), self).release();
    own.cancelled = true;
    set(self, types->callback_, Py_None);
    if (own.unusual) set(self, types->args_, Py_None);
    drop_values(own);
    Py_RETURN_NONE;
}

// Not while another thread runs it. False: an exception is set.
bool HandleTypes::wait_for(PyObject* handle, State* state) {
    Ref keep_loop, keep_handle = Ref::borrow(handle);
    LoopBase* loop = state ? state->handles.loop_of(handle, *state, &keep_loop) : nullptr;
    if (!loop) return state != nullptr;
    if (py::kHasGil) keep_loop = Ref::borrow(loop->object());
    return loop->current().wait(handle);
}

// Whoever runs it looks first whether it was cancelled: without a GIL that must be so before we
// look whether it runs.
PyObject* HandleTypes::cancel_thread_safe(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (py::kHasGil) return wait_for(self, state) ? cancel(self, nullptr) : nullptr;
    Ref done = Ref::steal(cancel(self, nullptr));
    return done && wait_for(self, state) ? done.release() : nullptr;
}

PyObject* HandleTypes::cancelled_thread_safe(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (!wait_for(self, state)) return nullptr;
    return PyBool_FromLong(state->handles.cancelled(self));
}

PyObject* HandleTypes::run_thread_safe(PyObject* self, PyObject*) {
    State* state = State::of_type(Py_TYPE(self));
    if (!state) return nullptr;
    HandleTypes* types = &state->handles;
    Ref keep_loop;
    LoopBase* loop = types->loop_of(self, *state, &keep_loop);
    if (!loop) return py::call(types->run_in_debug_.get(), self).release();
    Ref keep = Ref::borrow(loop->object()), keep_handle = Ref::borrow(self);
    Current::Run run(loop->current(), self);
    return py::call(types->run_in_debug_.get(), self).release();
}

// What a handle refers to.

void HandleTypes::drop_values(HandlePart& own) {
    PyObject* values[HandlePart::kValues];
    int count = std::exchange(own.count, 0);
    for (int i = 0; i < count; ++i) values[i] = std::exchange(own.values[i], nullptr);
    for (int i = 0; i < count; ++i) Ref value = Ref::steal(values[i]);
}

int HandleTypes::traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    HandleTypes* types = of(Py_TYPE(self));
    if (!types) return PyErr_Clear(), 0;
    const Kind* kind = types->kind_of(self);
    HandlePart& own = part(*kind, self);
    for (int i = 0; i < own.count; ++i) Py_VISIT(own.values[i]);
    Py_VISIT(own.vars);
    int result = 0;
    types->each_slot(*kind, self, [&](Py_ssize_t offset) {
        if (result == 0 && slot(self, offset)) result = visit(slot(self, offset), arg);
    });
    return result;
}

void HandleTypes::empty(Kind& kind, PyObject* self) {
    HandlePart& own = part(kind, self);
    drop_values(own);
    each_slot(kind, self, [&](Py_ssize_t offset) { set(self, offset, nullptr); });
    Ref vars = Ref::steal(std::exchange(own.vars, nullptr));
}

int HandleTypes::clear_handle(PyObject* self) {
    HandleTypes* types = of(Py_TYPE(self));
    if (!types) return PyErr_Clear(), 0;
    types->empty(*types->kind_of(self), self);
    return 0;
}

// As py::Slots do for watchers: a long chain may be each an argument of the next.
void HandleTypes::dealloc(PyObject* self) {
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, dealloc);
    end(self);
    Py_TRASHCAN_END;
}

void HandleTypes::end(PyObject* self) {
    HandleTypes* types = of(Py_TYPE(self));
    if (!types) {
        PyErr_Clear();
        Ref type = Ref::steal(reinterpret_cast<PyObject*>(Py_TYPE(self)));  // the instance's own
        return PyObject_GC_Del(self);
    }
    if (!py::kHasGil || slot(self, types->weakrefs_)) PyObject_ClearWeakRefs(self);
    Kind* kind = types->kind_of(self);
    types->empty(*kind, self);
    part(*kind, self) = HandlePart{};
    if (py::kHasGil) Py_SET_REFCNT(self, 1);
    types->spare(*kind, self);
}

}  // namespace pyev::aio
