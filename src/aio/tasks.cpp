// create_task() and create_future().
#include "aio/tasks.hpp"

namespace pyev::aio {

using py::Ref;

// create_task(coro, **kwargs), since Python 3.13.3.
static bool passes_keywords(PyObject* function) {
    if (!PyFunction_Check(function)) return false;
    auto* code = reinterpret_cast<PyCodeObject*>(PyFunction_GET_CODE(function));
    return code->co_flags & CO_VARKEYWORDS;
}

bool Tasks::init() {
    Ref native = Ref::steal(PyImport_ImportModule("_asyncio"));
    Ref events = Ref::steal(PyImport_ImportModule("asyncio.base_events")), base;
    tasks_ = Ref::steal(PyImport_ImportModule("asyncio.tasks"));
    futures_ = Ref::steal(PyImport_ImportModule("asyncio.futures"));
    task_name_ = Ref::steal(PyUnicode_InternFromString("Task"));
    future_name_ = Ref::steal(PyUnicode_InternFromString("Future"));
    none_ = Ref::steal(PyTuple_New(0));
    name_ = Ref::steal(PyUnicode_InternFromString("name"));
    context_ = Ref::steal(PyUnicode_InternFromString("context"));
    if (!native || !events || !tasks_ || !futures_ || !task_name_ || !future_name_ || !none_ ||
        !name_ || !context_)
        return false;
    task_ = Ref::steal(PyObject_GetAttr(native.get(), task_name_.get()));
    future_ = Ref::steal(PyObject_GetAttr(native.get(), future_name_.get()));
    base = Ref::steal(PyObject_GetAttrString(events.get(), "BaseEventLoop"));
    if (!task_ || !future_ || !base) return false;
    base_create_future = Ref::steal(PyObject_GetAttrString(base.get(), "create_future"));
    if (!base_create_future) return false;
    Ref create = Ref::steal(PyObject_GetAttrString(base.get(), "create_task"));
    if (!create) return false;
    if (passes_keywords(create.get())) {
        eager_start_ = Ref::steal(PyUnicode_InternFromString("eager_start"));
        if (!eager_start_) return false;
    }
    base_create_task = std::move(create);
    return true;
}

// Those of other names, or of a name that is equal but another object, are asyncio's to look at.
bool Tasks::plain_names(PyObject* names) const {
    for (Py_ssize_t i = PyTuple_GET_SIZE(names); i--;) {
        PyObject* name = PyTuple_GET_ITEM(names, i);
        if (name != name_.get() && name != context_.get() && name != eager_start_.get())
            return false;
    }
    return true;
}

Ref Tasks::make_task(py::Args args, PyObject* loop) const {
    Ref positional = Ref::steal(PyTuple_Pack(1, args.values[0]));
    if (!positional) return {};
    if (!args.names) return Ref::steal(PyObject_Call(task_.get(), positional.get(), loop));
    Ref named = Ref::steal(PyDict_Copy(loop));
    if (!named) return {};
    for (Py_ssize_t i = PyTuple_GET_SIZE(args.names); i--;) {
        PyObject* name = PyTuple_GET_ITEM(args.names, i);
        if (PyDict_SetItem(named.get(), name, args.values[args.count + i]) < 0) return {};
    }
    return Ref::steal(PyObject_Call(task_.get(), positional.get(), named.get()));
}

Ref Tasks::make_future(PyObject* loop) const {
    return Ref::steal(PyObject_Call(future_.get(), none_.get(), loop));
}

}  // namespace pyev::aio
