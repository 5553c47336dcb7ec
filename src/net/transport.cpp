// The life of a connection.
#include "net/transport.hpp"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace pyev::net {

using py::Ref;

Transport::Transport(const Kind* kind)
    : Runnable(&kind->table), watch_{&io_, this, on_dead, nullptr} {
    ev_io_init(&io_, on_event, -1, 0);
    io_.data = this;
}

Transport::~Transport() {
    unwatch();
    // A finalizer that could not be called has left it open.
    if (fd_ >= 0 && !socket_) ::close(fd_);
    PyMem_RawFree(addresses_);
    head()->extra = Ref();
    head()->dict = Ref();
}

bool Transport::open(const Parts& parts) {
    if (parts.loop->closed()) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    State& state = State::of(*parts.loop);
    loop_ = Ref::borrow(parts.loop->object());
    protocol_ = Ref::borrow(parts.protocol);
    context_ = parts.context ? Ref::borrow(parts.context) : Ref::steal(PyContext_CopyCurrent());
    socket_ = Ref::borrow(parts.socket);
    waiter_ = Ref::borrow(parts.waiter);
    if (parts.extra && !head()->extra) head()->extra = Ref::borrow(parts.extra);
    ev_io_set(&io_, parts.fd, 0);
    Ref made = Ref::steal(PyObject_GetAttr(parts.protocol, state.name(Name::connection_made)));
    Ref arguments = Ref::steal(PyTuple_Pack(1, object()));
    if (!context_ || !made || !arguments) return false;
    fd_ = parts.fd;
    made_ = !parts.socket;
    bool opened = parts.loop->transports().add(fd_, object());
    if (opened && parts.server) {
        Ref attached =
            Ref::steal(py::tell_server(parts.server, state.name(Name::_attach), object()));
        opened = static_cast<bool>(attached);
        if (opened) server_ = Ref::borrow(parts.server);
    }
    opened = opened && parts.loop->soon(made.get(), arguments.get(), context_.get()) &&
             parts.loop->push(this, kStart);
    if (opened) return true;
    parts.loop->transports().remove(fd_, object());
    fd_ = -1;
    socket_ = Ref();
    return false;
}

// Addresses.

static socklen_t get_name(int (*ask)(int, sockaddr*, socklen_t*), int fd, Address& address) {
    address.size = sizeof address.bytes;
    if (ask(fd, &address.any, &address.size) != 0) address.size = 0;
    return address.size;
}

// They are to be told after the descriptor is closed, too.
bool Transport::note_addresses(const Parts& parts) {
    Address local, remote;
    get_name(getsockname, parts.fd, local);
    const Address* given = parts.peer;
    if (!given) {
        get_name(getpeername, parts.fd, remote);
        given = &remote;
    }
    if (!local.known() || !given->known()) return note_addresses_of(parts);
    addresses_ = static_cast<char*>(PyMem_RawMalloc(2 + local.size + given->size));
    if (!addresses_) return PyErr_NoMemory() != nullptr;
    char* next = addresses_;
    for (const Address* address : {static_cast<const Address*>(&local), given}) {
        *next++ = static_cast<char>(address->size);
        std::memcpy(next, address->bytes, address->size);
        next += address->size;
    }
    return true;
}

// A family that only the socket module knows.
bool Transport::note_addresses_of(const Parts& parts) {
    State& state = State::of(*parts.loop);
    Ref socket = Ref::borrow(parts.socket), extra = Ref::borrow(parts.extra);
    if (!socket)
        socket = Ref::steal(
            PyObject_CallFunction(state.socket_type.get(), "iiii", -1, -1, -1, parts.fd));
    if (!extra) extra = Ref::steal(PyDict_New());
    bool done = socket && extra;
    for (Name name : {Name::getsockname, Name::getpeername}) {
        if (!done) break;
        Ref address = py::call_method(socket.get(), state.name(name));
        if (!address && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear();
            address = Ref::none();
        }
        Name key = name == Name::getsockname ? Name::sockname : Name::peername;
        done = address && PyDict_SetItem(extra.get(), state.name(key), address.get()) == 0;
    }
    if (socket && !parts.socket) {  // it must not close what is not its own yet
        py::ErrorGuard guard;
        Ref detached = py::call_method(socket.get(), state.name(Name::detach));
    }
    head()->extra = extra;
    return done;
}

Ref Transport::address(bool peer) const {
    const char* from = addresses_;
    if (peer) from += 1 + static_cast<unsigned char>(*from);
    Address address;
    address.size = static_cast<unsigned char>(*from);
    std::memcpy(address.bytes, from + 1, address.size);
    return to_python(address);
}

// What asyncio's get_extra_info() looks into: filled when somebody asks.
Ref Transport::get_extra() {
    Ref& extra = head()->extra;
    if (!extra) extra = Ref::steal(PyDict_New());
    if (!extra || !kind().socket || filled_) return extra;
    State* state = this->state();
    Ref socket = state ? get_socket() : Ref(), wrapped;
    if (socket) wrapped = py::call(state->transport_socket.get(), socket.get());
    bool done = wrapped && keep_extra(state->name(Name::socket), wrapped.get());
    if (done && addresses_) {
        Ref local = address(false), remote = address(true);
        done = local && remote && keep_extra(state->name(Name::sockname), local.get()) &&
               keep_extra(state->name(Name::peername), remote.get());
    }
    if (!done) return {};
    filled_ = true;
    PyMem_RawFree(std::exchange(addresses_, nullptr));
    return extra;
}

// What was given when the transport was made stays.
bool Transport::keep_extra(PyObject* key, PyObject* value) {
    return PyDict_SetDefault(head()->extra.get(), key, value) != nullptr;
}

bool Transport::has_peer() {
    Ref extra = get_extra();
    py::Found peer = extra ? py::find(extra.get(), name(Name::peername)) : nullptr;
    int connected = peer ? PyObject_IsTrue(peer) : 0;
    if (PyErr_Occurred()) PyErr_Clear();
    return connected > 0;
}

// The Python socket around the descriptor, made when somebody asks: from then on it is the owner.
Ref Transport::get_socket() {
    if (socket_) return socket_;
    State* state = this->state();
    if (!state) return {};
    PyObject* type = state->socket_type.get();
    if (fd_ < 0) return closed_socket(type);
    Ref socket = Ref::steal(PyObject_CallFunction(type, "iiii", -1, -1, -1, fd_));
    if (!socket) return {};
    socket_ = socket;
    if (!Ref::steal(PyObject_CallMethod(socket.get(), "setblocking", "i", 0))) return {};
    return socket;
}

// A socket of the kind that it was, for there is none any more.
Ref Transport::closed_socket(PyObject* type) {
    Address local;
    if (addresses_)
        std::memcpy(local.bytes, addresses_ + 1, static_cast<unsigned char>(*addresses_));
    int family = addresses_ ? local.any.sa_family : AF_UNIX;
    int protocol = family == AF_UNIX ? 0 : kind().socket == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    Ref socket = Ref::steal(PyObject_CallFunction(type, "iii", family, kind().socket, protocol));
    if (socket) {
        if (!Ref::steal(PyObject_CallMethod(socket.get(), "close", nullptr))) return {};
    } else if (PyErr_ExceptionMatches(PyExc_OSError)) {  // no descriptor is left: one of no kind
        PyErr_Clear();
        auto* make = reinterpret_cast<PyTypeObject*>(type);
        if (Ref none = Ref::steal(PyTuple_New(0)))
            socket = Ref::steal(make->tp_new(make, none.get(), nullptr));
    }
    return socket_ = socket;
}

Ref Transport::get_fd() { return Ref::steal(PyLong_FromLong(io_.fd)); }

// Somebody may have closed the Python socket, and its number be another file's: -1 then.
int Transport::fd_of_socket() const {
    return !kind().socket || State::fd_of(socket_.get()) == fd_ ? fd_ : -1;
}

// Waiting for events.

void Transport::change_watch(int events) {
    if (!loop_ || loop()->closed()) return;
    ev::Descriptors& descriptors = loop()->loop()->descriptors();
    if (watched()) descriptors.stop(&watch_);
    io_.events = events;
    if (events) {
        using Known = ev::Descriptors::Known;
        bool made = std::exchange(made_, false) && !socket_;
        if (int refused = descriptors.start(&watch_, made ? Known::kMade : Known::kNothing)) {
            if (!fatal(refused, kind().fatal)) loop()->put_aside(object());
            return;
        }
        loop()->poll_anew();
    }
    pending_ &= static_cast<unsigned char>(events);
    loop()->transports().hold(fd_, object(), events != 0);
}

void Transport::unwatch() {
    if (!watched() || !loop_ || loop()->closed()) return;
    loop()->loop()->descriptors().stop(&watch_);
}

void Transport::on_event(struct ev_loop*, ev_io* io, int revents) {
    auto* self = static_cast<Transport*>(io->data);
    if (revents & EV_ERROR) return self->give_up();
    self->note_events(revents);
}

// libev could not watch the descriptor, and has stopped by itself: the kernel has no room for it,
// or it is closed.
void Transport::give_up() {
    Ref keep = Ref::borrow(object());
    loop()->loop()->descriptors().stop(&watch_);
    loop()->transports().hold(fd_, object(), false);
    if (fcntl(fd_, F_GETFD) < 0) return on_dead(&watch_);
    if (!fatal(ENOSPC, kind().fatal)) loop()->loop()->fail();
}

void Transport::note_events(int revents) {
    pending_ |= static_cast<unsigned char>(revents);
    if (queued_) return;
    queued_ = loop()->push_event(this, kEvents);
    if (!queued_) PyErr_WriteUnraisable(object());
}

// The descriptor was closed behind our back: its number may be another's by now.
void Transport::on_dead(ev::Watch* watch) {
    auto* self = static_cast<Transport*>(watch->owner);
    Ref keep = Ref::borrow(self->object());
    self->watch(0);
    if (self->socket_ && self->kind().socket) {
        Ref detached = py::call_method(self->socket_.get(), self->name(Name::detach));
        if (!detached) self->loop()->put_aside(self->object());
    }
    self->loop()->transports().remove(self->fd_, self->object());
    self->fd_ = -1;
    if (!self->fatal(EBADF, self->kind().fatal)) self->loop()->loop()->fail();
}

// The loop is closed. The transport is left as it is, for its finalizer to complain about.
void Transport::detach(Runnable* runnable) { static_cast<Transport*>(runnable)->unwatch(); }

bool Transport::run(Runnable* runnable, unsigned what) {
    auto* self = static_cast<Transport*>(runnable);
    if (what == kEvents) return self->run_events();
    return what == kStart ? self->run_start() : self->run_lost();
}

bool Transport::run_events() {
    queued_ = false;
    int revents = pending_ & watched();
    pending_ = 0;
    return !revents || lost_ || kind().ready(this, revents);
}

bool Transport::run_start() {
    if (!closing_) kind().started(this);
    Ref waiter = std::move(waiter_);
    if (!waiter) return true;
    return State::of(*loop()).settle(waiter.get(), Name::set_result, Py_None) ||
           report("Exception in a transport's waiter");
}

// The end.

bool Transport::report(const char* message, bool fatal) {
    return State::of(*loop()).report(loop_.get(), object(), protocol_.get(), message, fatal);
}

bool Transport::fatal(const char* message) {
    if (py::ends_program()) return false;
    Ref error = Ref::steal(py::take_raised());
    bool told = true;
    // An OSError is what connection_lost() is for, but debug mode logs it.
    if (debug() || !PyErr_GivenExceptionMatches(error.get(), PyExc_OSError)) {
        py::put_raised(error.new_ref());
        told = report(message, true);
    }
    if (told) return force_close(error.get());
    py::ErrorGuard guard;
    if (!force_close(error.get())) PyErr_Clear();
    return false;
}

bool Transport::fatal(int number, const char* message) {
    (void)py::raise_errno(number);
    return fatal(message);
}

bool Transport::force_close(PyObject* error) {
    if (lost_) return true;
    kind().drop_unsent(this);
    closing_ = true;
    return lose(error);
}

bool Transport::lose(PyObject* error) {
    if (lost_) return true;  // whoever stopped watching it has found that it is closed
    ++lost_;
    watch(0);
    if (error && error != Py_None) error_ = Ref::borrow(error);
    return loop()->push(this, kLost);
}

bool Transport::run_lost() {
    Ref error = error_ ? std::move(error_) : Ref::none();
    bool told = call_protocol(Name::connection_lost, error.get()) ||
                report("Fatal error: protocol.connection_lost() call failed.");
    Ref pending = told ? Ref() : Ref::steal(py::take_raised());
    close_descriptor();
    leave_server();
    kind().gone(this);
    protocol_ = context_ = Ref();
    py::publish(mutex_, loop_, Ref());
    if (pending) py::put_raised(pending.release());
    return told;
}

void Transport::close_descriptor() {
    int fd = std::exchange(fd_, -1);
    if (fd < 0) return;
    if (loop_) {
        loop()->transports().remove(fd, object());
        loop()->poll_next();
        if (lends && !loop()->closed()) loop()->loop()->descriptors().closing(fd);
    }
    if (socket_) {
        Ref closed = Ref::steal(PyObject_CallMethod(socket_.get(), "close", nullptr));
        if (!closed) loop_ ? loop()->put_aside(object()) : PyErr_WriteUnraisable(object());
    } else if (loop_ && !loop()->closed()) {
        loop()->loop()->close_fd(fd);
    } else {
        ::close(fd);
    }
}

void Transport::leave_server() {
    Ref server = std::move(server_);
    if (!server) return;
    Ref left = Ref::steal(py::tell_server(server.get(), name(Name::_detach), object()));
    if (!left) loop()->put_aside(object());
}

void Transport::stop_for_clear() {
    unwatch();
    if (loop_) loop()->transports().remove(fd_, object());
}

void Transport::finalize() {
    py::ErrorGuard guard;
    if (!py::finalizing()) {
        Ref description = Ref::steal(PyObject_Repr(object()));
        if (!description ||
            PyErr_ResourceWarning(object(), 1, "unclosed transport %U", description.get()) < 0)
            PyErr_WriteUnraisable(object());
    }
    unwatch();
    close_descriptor();
    if (loop_) leave_server();
}

Ref Transport::set_protocol(py::Args args) {
    PyObject* protocol = py::bind_one("set_protocol", "protocol", args);
    if (!protocol) return {};
    protocol_ = Ref::borrow(protocol);
    return Ref::none();
}

Ref Transport::abort() { return force_close_with(nullptr); }

// What waits for the turn's end is sent first: only what the kernel refused is dropped. On
// asyncio's own transports it had been sent when write() returned.
Ref Transport::force_close_with(PyObject* error) {
    return kind().table.flush(this) && force_close(error) ? Ref::none() : Ref();
}

void Transport::note(const char* what) {
    if (!debug()) return;
    Ref text = Ref::steal(PyUnicode_FromString(what));
    if (!text || !py::call_method(loop_.get(), name(Name::_transport_note), object(), text.get()))
        loop()->put_aside(object());
}

}  // namespace pyev::net
