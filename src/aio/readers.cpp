// add_reader and add_writer.
#include "aio/readers.hpp"

#include <errno.h>
#include <fcntl.h>

#include "aio/loop_base.hpp"

namespace pyev::aio {

using py::Ref;

Readers::~Readers() {
    for (Entry& entry : entries_)
        for (Direction* direction : entry.directions) PyMem_RawFree(direction);
}

ev::Descriptors& Readers::descriptors() { return owner_->loop()->descriptors(); }

bool Readers::set(int fd, int events, PyObject* handle, Ref& replaced, bool sends, bool open) {
    if (Direction* direction = find(fd, events)) {
        replaced = Ref::steal(std::exchange(direction->handle, Py_NewRef(handle)));
        direction->sends = sends;
        descriptors().closing(fd);  // the number may be another file's by now
        return true;
    }
    // No room is made for a number that is no descriptor's: it may be any, negative too.
    if (static_cast<size_t>(fd) >= entries_.size() && fcntl(fd, F_GETFD) < 0)
        return py::raise_errno(errno);
    if (!entries_.extend(static_cast<size_t>(fd) + 1)) return false;
    Direction* direction = entries_[fd].directions[index_of(events)];
    if (!direction) {
        direction = static_cast<Direction*>(PyMem_RawCalloc(1, sizeof(Direction)));
        if (!direction) return PyErr_NoMemory() != nullptr;
        entries_[fd].directions[index_of(events)] = direction;
        direction->readers = this;
        direction->watch = {&direction->io, direction, dead, nullptr, other, true};
        ev_io_init(&direction->io, ready, fd, events);
        direction->io.data = direction;
    }
    auto known = open ? ev::Descriptors::Known::kOpen : ev::Descriptors::Known::kNothing;
    if (int refused = descriptors().start(&direction->watch, known))
        return py::raise_errno(refused);
    replaced = Ref::steal(std::exchange(direction->handle, Py_NewRef(handle)));
    direction->sends = sends;
    owner_->poll_anew();
    // Of one descriptor the reader runs first: libev tells of the last one started first.
    if (Direction* reader = events == EV_WRITE ? find(fd, EV_READ) : nullptr;
        reader && !ev_is_pending(&reader->io)) {
        struct ev_loop* loop = owner_->loop()->ev();
        ev_io_stop(loop, &reader->io);
        ev_io_start(loop, &reader->io);
    }
    return true;
}

Ref Readers::take(int fd, int events) {
    Direction* direction = find(fd, events);
    if (!direction) return {};
    descriptors().stop(&direction->watch);
    Ref file = Ref::steal(std::exchange(direction->file, nullptr));
    return Ref::steal(std::exchange(direction->handle, nullptr));
}

void Readers::note_file(int fd, int events, PyObject* file) {
    Direction* direction = find(fd, events);
    if (!direction || direction->file == file || PyLong_Check(file)) return;
    Ref before = Ref::steal(std::exchange(direction->file, Py_NewRef(file)));
}

int Readers::number_of(PyObject* file, int events) {
    for (size_t fd = 0; fd < entries_.size(); ++fd) {
        Direction* direction = entries_[fd].directions[index_of(events)];
        if (direction && direction->file == file) return static_cast<int>(fd);
    }
    return -1;
}

int Readers::watching(int fd) {
    return (find(fd, EV_READ) ? EV_READ : 0) | (find(fd, EV_WRITE) ? EV_WRITE : 0);
}

void Readers::clear() {
    for (size_t fd = 0; fd < entries_.size(); ++fd) {
        take(static_cast<int>(fd), EV_READ);
        take(static_cast<int>(fd), EV_WRITE);
    }
}

void Readers::ready(struct ev_loop*, ev_io* io, int revents) {
    auto* direction = static_cast<Direction*>(io->data);
    if (revents & EV_ERROR) return refused(direction);
    if (!direction->handle) return;
    LoopBase* owner = direction->readers->owner_;
    if (direction->sends) owner->poll_next();
    owner->push_event(direction->handle);
}

void Readers::forget(PyObject* handle) {
    for (size_t fd = 0; fd < entries_.size(); ++fd)
        for (int events : {EV_READ, EV_WRITE}) {
            Direction* direction = find(static_cast<int>(fd), events);
            if (!direction || direction->handle != handle) continue;
            Ref gone = take(static_cast<int>(fd), events);
            return;
        }
}

// Asyncio's own loop goes on watching, and so do we; an operation knows its socket.
void Readers::other(ev::Watch* watch) {
    auto* direction = static_cast<Direction*>(watch->owner);
    if (direction->handle) direction->readers->owner_->wake_operation(direction->handle, 0);
}

// libev could not watch it, and has stopped by itself: it is closed, or the kernel has no room.
void Readers::refused(Direction* direction) {
    int fd = direction->io.fd;
    if (fcntl(fd, F_GETFD) < 0) return dead(&direction->watch);
    LoopBase* owner = direction->readers->owner_;
    Ref handle = direction->readers->take(fd, direction->io.events);
    if (handle) owner->report_unwatched(handle.get(), fd, ENOSPC);
}

void Readers::dead(ev::Watch* watch) {
    auto* direction = static_cast<Direction*>(watch->owner);
    int fd = direction->io.fd;
    LoopBase* owner = direction->readers->owner_;
    Ref handle = direction->readers->take(fd, direction->io.events);
    if (handle) owner->report_unwatched(handle.get(), fd, 0);
}

}  // namespace pyev::aio
