// create_task() and create_future().
#include "aio/tasks.hpp"

namespace pyev::aio {

using py::Ref;

bool Tasks::init() {
    Ref native = Ref::steal(PyImport_ImportModule("_asyncio"));
    Ref events = Ref::steal(PyImport_ImportModule("asyncio.base_events")), base;
    tasks_ = Ref::steal(PyImport_ImportModule("asyncio.tasks"));
    futures_ = Ref::steal(PyImport_ImportModule("asyncio.futures"));
    task_name_ = Ref::steal(PyUnicode_InternFromString("Task"));
    future_name_ = Ref::steal(PyUnicode_InternFromString("Future"));
    none_ = Ref::steal(PyTuple_New(0));
    if (!native || !events || !tasks_ || !futures_ || !task_name_ || !future_name_ || !none_)
        return false;
    task_ = Ref::steal(PyObject_GetAttr(native.get(), task_name_.get()));
    future_ = Ref::steal(PyObject_GetAttr(native.get(), future_name_.get()));
    base = Ref::steal(PyObject_GetAttrString(events.get(), "BaseEventLoop"));
    if (!task_ || !future_ || !base) return false;
    base_create_future = Ref::steal(PyObject_GetAttrString(base.get(), "create_future"));
    if (!base_create_future) return false;
    base_create_task = Ref::steal(PyObject_GetAttrString(base.get(), "create_task"));
    return static_cast<bool>(base_create_task);
}

Ref Tasks::make_task(PyObject* coroutine, PyObject* loop) const {
    Ref arguments = Ref::steal(PyTuple_Pack(1, coroutine));
    if (!arguments) return {};
    return Ref::steal(PyObject_Call(task_.get(), arguments.get(), loop));
}

Ref Tasks::make_future(PyObject* loop) const {
    return Ref::steal(PyObject_Call(future_.get(), none_.get(), loop));
}

}  // namespace pyev::aio
