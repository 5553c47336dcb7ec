// A callback in a context of its own.
#include "ev/context_callback.hpp"

#include "ev/state.hpp"
#include "py/context.hpp"

namespace pyev::ev {

using py::Ref;

Ref ContextCallback::make(State& state, PyObject* callback) {
    auto* type = reinterpret_cast<PyTypeObject*>(state.context_callback.get());
    Ref self = Ref::steal(py::Slots<ContextCallback>::create(type, nullptr, nullptr));
    if (!self) return {};
    auto* value = py::value_of<ContextCallback>(self.get());
    value->callback_ = Ref::borrow(callback);
    if (!value->renew()) return {};
    return self;
}

bool ContextCallback::renew() {
    Ref context = Ref::steal(PyContext_CopyCurrent());
    if (!context) return false;
    context_ = std::move(context);
    return true;
}

PyObject* ContextCallback::call(PyObject* self, PyObject* const* values, size_t count,
                                PyObject* names) {
    auto* value = py::value_of<ContextCallback>(self);
    // Both may be replaced by what is called.
    Ref callback = value->callback_, context = value->context_;
    if (!callback || !context) {
        PyErr_SetString(PyExc_RuntimeError, "the callback is gone");
        return nullptr;
    }
    py::InContext inside(context.get());
    if (inside) return PyObject_Vectorcall(callback.get(), values, count, names);
    // A context cannot be entered twice, and a callback may invoke() its own watcher.
    PyErr_Clear();
    context = Ref::steal(PyContext_Copy(context.get()));
    if (!context) return nullptr;
    py::InContext copy(context.get());
    return copy ? PyObject_Vectorcall(callback.get(), values, count, names) : nullptr;
}

const py::TypeInfo ContextCallback::kType = {
    "pyev._core.ContextCallback", "A callback in a context of its own.", nullptr, nullptr};

}  // namespace pyev::ev
