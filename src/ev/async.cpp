// Async: libev's ev_async.
#include "ev/async.hpp"

#include "py/compat.hpp"

namespace pyev::ev {

using py::Ref;

// The one call that any thread may make while the loop runs. libev wakes the poll with an eventfd
// it made with the loop.
Ref Async::send() {
    // On its way. The loop clears that mark with the GIL held, so its callback, which comes after
    // that, sees all that was done before here. Without a GIL, libev's memory fence is needed.
    if (py::kHasGil && ev_async_pending(&ev_)) return Ref::none();
    py::Hold hold(owner()->gate());
    if (!py::kHasGil && !alive()) return {};
    if (!owner()->can_end_poll(&ev_)) return {};
    ev_async_send(owner()->ev(), &ev_);
    if (is_active()) owner()->note_sent(&ev_);
    return Ref::none();
}

void Async::end() {
    py::Hold hold(owner()->gate());
    owner()->forget_sent(&ev_);
    ev_async_stop(owner()->ev(), &ev_);
}

Ref Async::get_sent() { return Ref::steal(PyBool_FromLong(ev_async_pending(&ev_))); }

static PyMethodDef methods[] = {
    py::noargs<&Async::send, py::Guard::kAlive>("send", R"(send($self, /)
--

Wake the loop and make the watcher pending. From any thread, and from signal handlers.

Nothing comes of it if the watcher is not active. Cheap when a send is already on its way.
Raises Error when the loop is closed; OSError (EBADF) when the loop waits, and somebody has closed the
descriptor that wakes it. libev manual: ev_async_send.)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Async::get_sent>(
        "sent", R"(Whether send() was called and the loop has not yet noticed it. Read-only.

libev manual: ev_async_pending.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Async::kType = {
    kName, R"(Async(loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_ASYNC) in the loop's thread after send() was called in any other.

Several sends before the callback runs are one call: pass data in a queue beside it.
Raises TypeError for a wrong loop or callback.
libev manual: "ev_async - how to wake up an event loop".)",
    methods, getset};

}  // namespace pyev::ev
