// Async: libev's ev_async.
#include "ev/async.hpp"

namespace pyev::ev {

using py::Ref;

// The one call that any thread may make while the loop runs. libev wakes the poll with an eventfd
// it made with the loop.
Ref Async::send() {
    ev_async_send(loop_->ev(), &ev_);
    return Ref::none();
}

Ref Async::get_sent() { return Ref::steal(PyBool_FromLong(ev_async_pending(&ev_))); }

static PyMethodDef methods[] = {
    py::noargs<&Async::send, py::Guard::kAlive>("send", "send($self)\n--\n\n"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Async::get_sent>("sent", ""),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Async::kType = {kName, "", methods, getset};

}  // namespace pyev::ev
