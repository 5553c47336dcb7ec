// Making transports: of a socket that is connected, and of those that come in.
#include "net/functions.hpp"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "net/datagram_transport.hpp"
#include "net/pipe_transport.hpp"
#include "net/socket_transport.hpp"
#include "net/ssl_transport.hpp"

namespace pyev::net {

using py::Ref;

static PyObject* or_null(PyObject* object) { return object == Py_None ? nullptr : object; }

// The LoopBase that `object` is. Null: an exception is set.
static aio::LoopBase* loop_of(State& state, PyObject* object) {
    if (!PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(state.loop_base.get()))) {
        (void)py::raise(PyExc_TypeError, "a pyev.EventLoop is required, not '%.200s'",
                        Py_TYPE(object)->tp_name);
        return nullptr;
    }
    auto* loop = py::value_of<aio::LoopBase>(object);
    return loop->alive() ? loop : nullptr;
}

static bool has(const char* function, Py_ssize_t count, Py_ssize_t wanted) {
    return count == wanted ||
           py::raise(PyExc_TypeError, "%s() takes %zd arguments, not %zd", function, wanted, count);
}

// A context, or None. False: an exception is set.
static bool take_context(PyObject* given, PyObject*& context) {
    context = or_null(given);
    return !context || PyContext_CheckExact(context) ||
           py::raise(PyExc_TypeError, "a contextvars.Context is required, not '%.200s'",
                     Py_TYPE(context)->tp_name);
}

// make_..._transport(loop, file, protocol, waiter, extra, more[, context]): `more` is the kind's
// own.
template <Ref (*Make)(State&, Transport::Parts&, PyObject* more)>
static PyObject* make(PyObject* module, PyObject* const* values, Py_ssize_t count) {
    auto& state = *static_cast<State*>(aio::State::of(module));
    int fd;
    if (count != 7 && !has("a transport", count, 6)) return nullptr;
    aio::LoopBase* loop = loop_of(state, values[0]);
    if (!loop || !py::to_fd(values[1], fd)) return nullptr;
    py::Locked locked(loop);
    Transport::Parts parts = {loop, fd, values[2]};
    if (count == 7 && !take_context(values[6], parts.context)) return nullptr;
    parts.socket = values[1];
    parts.waiter = or_null(values[3]);
    parts.extra = or_null(values[4]);
    return Make(state, parts, values[5]).release();
}

static Ref make_socket(State& state, Transport::Parts& parts, PyObject* server) {
    parts.server = or_null(server);
    return SocketTransport::make(state, parts);
}
static Ref make_datagram(State& state, Transport::Parts& parts, PyObject* address) {
    return DatagramTransport::make(state, parts, address);
}
static Ref make_pipe(State& state, Transport::Parts& parts, PyObject* writes) {
    // A number is no file: it could not be closed.
    if (PyIndex_Check(parts.socket))
        return py::raise(PyExc_AttributeError, "'%.200s' object has no attribute 'fileno'",
                         Py_TYPE(parts.socket)->tp_name);
    return writes == Py_True ? WritePipeTransport::make(state, parts)
                             : ReadPipeTransport::make(state, parts);
}

// make_ssl_transport(loop, protocol, sslcontext, waiter, server_side, server_hostname,
// handshake_timeout, shutdown_timeout, makes_connection, context)
static PyObject* make_ssl_transport(PyObject* module, PyObject* const* values, Py_ssize_t count) {
    auto& state = *static_cast<State*>(aio::State::of(module));
    if (!has("make_ssl_transport", count, 10)) return nullptr;
    SslTransport::Parts parts = {loop_of(state, values[0]), values[1], values[2]};
    if (!parts.loop) return nullptr;
    parts.waiter = or_null(values[3]);
    parts.server_hostname = values[5];
    parts.handshake_timeout = values[6];
    parts.shutdown_timeout = values[7];
    if (!py::to_bool(values[4], parts.server_side) ||
        !py::to_bool(values[8], parts.makes_connection) || !take_context(values[9], parts.context))
        return nullptr;
    py::Locked locked(parts.loop);
    return SslTransport::make(state, parts).release();
}

// The TLS that a server's connections are to have: None, or (sslcontext, handshake_timeout,
// shutdown_timeout). False: an exception is set.
static bool take_tls(PyObject* given, SslTransport::Parts& tls) {
    tls.server_side = true;
    if (given == Py_None) return true;
    return PyArg_ParseTuple(given, "OOO;TLS", &tls.sslcontext, &tls.handshake_timeout,
                            &tls.shutdown_timeout);
}

// The transport of a connection, which its protocol gets, through TLS or not. Empty: an exception
// is set, and the descriptor is still the caller's.
static Ref make_connection(State& state, Transport::Parts parts, SslTransport::Parts tls) {
    if (!tls.sslcontext) return SocketTransport::make(state, parts);
    tls.loop = parts.loop;
    tls.protocol = parts.protocol;
    tls.context = parts.context;
    tls.waiter = std::exchange(parts.waiter, nullptr);
    Ref transport = SslTransport::make(state, tls);
    parts.protocol = transport.get();
    return transport && SocketTransport::make(state, parts) ? transport : Ref();
}

// A connection has come in: its protocol is made and gets it. False: an exception is set.
static bool welcome(State& state, Transport::Parts& parts, SslTransport::Parts tls,
                    PyObject* factory) {
    Ref context = Ref::steal(PyContext_CopyCurrent()), protocol;
    if (context) {
        py::InContext entered(context.get());
        if (entered) protocol = py::call(factory);
    }
    if (!protocol) return false;
    parts.context = context.get();
    parts.protocol = protocol.get();
    return static_cast<bool>(make_connection(state, parts, tls));
}

// An accept() that finds nothing costs fifteen times as much, for it makes a socket beforehand.
static bool readable(int fd) {
    pollfd polled = {fd, POLLIN, 0};
    return poll(&polled, 1, 0) > 0;
}

// What a listening socket's reader calls. There may be many connections: up to `backlog` are taken.
static PyObject* accept_connections(PyObject* module, PyObject* const* values, Py_ssize_t count) {
    auto& state = *static_cast<State*>(aio::State::of(module));
    int fd, backlog;
    if (!has("accept_connections", count, 6)) return nullptr;
    aio::LoopBase* loop = loop_of(state, values[0]);
    PyObject *factory = values[1], *socket = values[2], *server = values[3];
    SslTransport::Parts tls = {};
    if (!loop || !py::to_int(values[4], backlog) || !take_tls(values[5], tls)) return nullptr;
    py::Locked locked(loop);
    for (int taken = 0; taken < std::max(backlog, 1); ++taken) {
        // The one before may have closed the server.
        if (loop->closed()) Py_RETURN_NONE;
        if (!py::to_fd(socket, fd)) return PyErr_Clear(), Py_NewRef(Py_None);
        if (taken && !readable(fd)) break;
        Address peer;
        peer.size = sizeof peer.bytes;
        int connection = accept4(fd, &peer.any, &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int number = errno;
        if (connection < 0) {
            if (number == EAGAIN || number == EWOULDBLOCK || number == EINTR) break;
            if (number == ECONNABORTED) continue;
            (void)py::raise_errno(number);
            Ref error = Ref::steal(py::take_raised());
            // Lack of descriptors or memory passes; anything else is the reader's to report.
            if (number != EMFILE && number != ENFILE && number != ENOBUFS && number != ENOMEM)
                return py::put_raised(error.release()), nullptr;
            py::Handling handling(error.get());
            return py::call_method(loop->object(), state.name(Name::_accept_failed), error.get(),
                                   factory, socket, server, values[4], values[5])
                .release();
        }
        Transport::Parts parts = {loop, connection, nullptr};
        parts.server = or_null(server);
        parts.peer = &peer;
        if (welcome(state, parts, tls, factory)) continue;
        ::close(connection);
        if (py::ends_program()) return nullptr;
        Ref error = Ref::steal(py::take_raised());
        py::Handling handling(error.get());
        if (!py::call_method(loop->object(), state.name(Name::_welcome_failed), error.get()))
            return nullptr;
    }
    Py_RETURN_NONE;
}

// socket.connect(address) raised an OSError, or what waits for it found one: asyncio tells them
// apart. False.
static bool refused(int number, PyObject* address, bool late) {
    if (!late) return py::raise_errno(number);
    Ref text = Ref::steal(PyUnicode_FromFormat("Connect call failed %S", address)), error;
    if (text) error = Ref::steal(PyObject_CallFunction(PyExc_OSError, "iO", number, text.get()));
    if (error) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.get())), error.get());
    return false;
}

// Starts to connect. Done is false where that takes time. False: an exception is set.
static bool start_connecting(int fd, const Address& to, PyObject* address, bool& done) {
    done = false;
    if (connect(fd, &to.any, to.size) == 0) return done = true;
    if (errno == EAGAIN || errno == EINTR) return true;
    if (errno != EINPROGRESS) return refused(errno, address, false);
    // Between two ends of one machine the kernel is done by the time it says so: to ask again costs
    // less than to wait for the event.
    if (connect(fd, &to.any, to.size) == 0) return done = true;
    return errno == EALREADY || errno == EINPROGRESS || errno == EINTR ||
           refused(errno, address, true);
}

static bool take_client_tls(PyObject* given, SslTransport::Parts& tls) {
    return given == Py_None ||
           PyArg_ParseTuple(given, "OOOO;TLS", &tls.sslcontext, &tls.server_hostname,
                            &tls.handshake_timeout, &tls.shutdown_timeout);
}

// connect_socket(loop, protocol_factory, host, port, waiter, tls): to a numeric address. tls: None,
// or (sslcontext, server_hostname, handshake_timeout, shutdown_timeout).
static PyObject* connect_socket(PyObject* module, PyObject* const* values, Py_ssize_t count) {
    auto& state = *static_cast<State*>(aio::State::of(module));
    if (!has("connect_socket", count, 6)) return nullptr;
    aio::LoopBase* loop = loop_of(state, values[0]);
    PyObject *factory = values[1], *host = values[2], *port = values[3];
    SslTransport::Parts tls;
    if (!loop || !take_client_tls(values[5], tls)) return nullptr;
    py::Locked locked(loop);
    Address to;
    Ref address = Ref::steal(PyTuple_Pack(2, host, port));
    if (!address) return nullptr;
    if (!from_python(address.get(), AF_INET, to)) {
        if (!from_python(address.get(), AF_INET6, to)) Py_RETURN_NONE;
        address = Ref::steal(Py_BuildValue("(OOii)", host, port, 0, 0));
        if (!address) return nullptr;
    }
    // Nothing can fail once somebody owns the descriptor.
    Ref pair = Ref::steal(PyTuple_New(2)), first, second;
    if (!pair) return nullptr;
    int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return (void)py::raise_errno(errno), nullptr;
    bool done;
    if (PySys_Audit("socket.connect", "OO", loop->object(), address.get()) == 0 &&
        start_connecting(fd, to, address.get(), done)) {
        second = done ? py::call(factory) : address;
        Transport::Parts parts = {loop, fd, second.get()};
        parts.waiter = values[4];
        if (second && done) first = make_connection(state, parts, tls);
        if (!done)
            first =
                Ref::steal(PyObject_CallFunction(state.socket_type.get(), "iiii", -1, -1, -1, fd));
    }
    if (!first) {
        ::close(fd);
        return nullptr;
    }
    PyTuple_SET_ITEM(pair.get(), 0, first.release());
    PyTuple_SET_ITEM(pair.get(), 1, second.release());
    return pair.release();
}

// How TLS is done: None, or why OpenSSL is not called directly.
static PyObject* tls_fallback(PyObject* module, PyObject*) {
    auto& state = *static_cast<State*>(aio::State::of(module));
    return state.tls.prepare() ? state.tls.why_not.new_ref() : nullptr;
}

// What every event loop needs. Called by the module that makes them, when it is imported: that is
// once, whatever threads there are.
static PyObject* prepare(PyObject* module, PyObject*) {
    auto& state = *static_cast<State*>(aio::State::of(module));
    return state.prepare(module) ? Ref::none().release() : nullptr;
}

// Made when somebody asks, as the first event loop is: importing pyev does not import asyncio.
static PyObject* stream_classes(PyObject* module, PyObject*) {
    auto& state = *static_cast<State*>(aio::State::of(module));
    if (!state.prepare(module)) return nullptr;
    return PyTuple_Pack(2, state.streams.native_reader.type(), state.streams.native_writer.type());
}

template <PyObject* (*F)(PyObject*, PyObject* const*, Py_ssize_t)>
static PyMethodDef fast(const char* name, const char* doc) {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(F)), METH_FASTCALL,
            doc};
}

PyMethodDef functions[] = {
    fast<make<make_socket>>("make_socket_transport",
                            "make_socket_transport(loop, sock, protocol, waiter, extra, server, "
                            "context=None, /)\n--\n\n"
                            "A transport on a connected, non-blocking socket."),
    fast<make<make_datagram>>(
        "make_datagram_transport",
        "make_datagram_transport(loop, sock, protocol, waiter, extra, address, /)\n--\n\n"
        "A transport on a non-blocking datagram socket."),
    fast<make<make_pipe>>(
        "make_pipe_transport",
        "make_pipe_transport(loop, pipe, protocol, waiter, extra, writes, /)\n--\n\n"
        "A transport on one end of a pipe."),
    fast<make_ssl_transport>(
        "make_ssl_transport",
        "make_ssl_transport(loop, protocol, sslcontext, waiter, server_side, server_hostname, "
        "handshake_timeout, shutdown_timeout, makes_connection, context, /)\n--\n\n"
        "A transport through TLS, to be made the protocol of the transport that it goes through."),
    fast<connect_socket>(
        "connect_socket",
        "connect_socket(loop, protocol_factory, host, port, waiter, tls, /)\n--\n\n"
        "Connect to a numeric address: the transport and its protocol; or, where that takes time, "
        "the socket that is connecting and the address; or None for any other host or port."),
    fast<accept_connections>(
        "accept_connections",
        "accept_connections(loop, protocol_factory, sock, server, backlog, tls, /)\n--\n\n"
        "Make transports of the connections that wait at a listening socket."),
    {"tls_fallback", tls_fallback, METH_NOARGS,
     "tls_fallback()\n--\n\n"
     "Why TLS is done by ssl's own objects; None when OpenSSL is called directly."},
    {"_prepare", prepare, METH_NOARGS,
     "_prepare()\n--\n\nMake what event loops need, unless it has been made."},
    {"stream_classes", stream_classes, METH_NOARGS,
     "stream_classes()\n--\n\nThe classes StreamReader and StreamWriter."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace pyev::net
