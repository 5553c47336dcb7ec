// Io: libev's ev_io.
#include "ev/io.hpp"

#include <errno.h>
#include <fcntl.h>

namespace pyev::ev {

using py::Ref;

static constexpr int kMask = EV_READ | EV_WRITE;

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

bool Io::configure(PyObject* const* lead) {
    int fd, events;
    if (!py::to_fd(lead[0], fd) || !py::to_int(lead[1], events) || !inactive()) return false;
    if (events & ~kMask)
        return py::raise(state()->error.get(), "Io: events must be of EV_READ and EV_WRITE, not %d",
                         events);
    ev_io_set(&ev_, fd, events);
    return true;
}

void Io::dead(Watch* watch) { static_cast<Io*>(watch->owner)->fail(EBADF); }

void Io::event(int revents) {
    if (revents & EV_ERROR) return fail(is_open(ev_.fd) ? 0 : EBADF);
    // epoll reports a closed descriptor for ever when its file lives on under another number. To
    // look now and then ends that, at no cost that can be measured.
    if ((++delivered_ & 63) == 0 && is_active() && !is_open(ev_.fd)) return fail(EBADF);
    deliver(revents);
}

static const char* events_name(int events) {
    static constexpr const char* names[] = {"0", "EV_READ", "EV_WRITE", "EV_READ|EV_WRITE"};
    return names[events & kMask];
}

Ref Io::describe() {
    return Ref::steal(PyUnicode_FromFormat("fd=%d events=%s", ev_.fd, events_name(ev_.events)));
}

Ref Io::get_fd() { return Ref::steal(PyLong_FromLong(ev_.fd)); }
Ref Io::get_events() { return Ref::steal(PyLong_FromLong(ev_.events & kMask)); }

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", R"(set($self, /, fd, events)
--

Watch another fd or other events from the next start() on.

Allowed on a pending watcher, whose old event is dropped; Error on an active one.
Raises as Io() does.)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Io::get_fd>("fd", R"(The descriptor's number. Read-only: set() changes it.)"),
    py::get<&Io::get_events>(
        "events", R"(EV_READ and EV_WRITE bits, as given. Read-only: set() changes them.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Io::kType = {
    kName, R"(Io(fd, events, loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, revents) in each turn in which fd is readable or writable.

fd: a number or an object with fileno(). events: EV_READ, EV_WRITE, both, or 0 for none.
Raises TypeError for a wrong type of fd, ValueError for a negative one, OverflowError for one that
no C int holds, Error for other bits in events. start() raises OSError (EBADF) when fd is not open.
Stop the watcher before closing its fd. If the fd is closed all the same, the watcher is stopped
and Loop.start() raises OSError (EBADF); libev would abort.
libev manual: "ev_io - is this file descriptor readable or writable?".)",
    methods, getset};

}  // namespace pyev::ev
