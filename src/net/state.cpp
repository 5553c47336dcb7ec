// What the net layer keeps per interpreter.
#include "net/state.hpp"

#include "net/datagram_transport.hpp"
#include "net/pipe_transport.hpp"
#include "net/socket_transport.hpp"
#include "net/ssl_transport.hpp"
#include "py/call.hpp"
#include "py/error.hpp"

namespace pyev::net {

using py::Ref;

static constexpr const char* kNames[] = {
#define PYEV_NAME(name) #name,
    PYEV_NAMES(PYEV_NAME)
#undef PYEV_NAME
};

static Ref attribute(const char* module, const char* name) {
    Ref found = Ref::steal(PyImport_ImportModule(module));
    return found ? Ref::steal(PyObject_GetAttrString(found.get(), name)) : Ref();
}

// All derive from what asyncio calls their kind, and those that write from its flow control.
bool State::make_types(PyObject* module) {
    Ref flow = attribute("asyncio.transports", "_FlowControlMixin");
    Ref read = attribute("asyncio.transports", "ReadTransport");
    if (!flow || !read) return false;
    if (reinterpret_cast<PyTypeObject*>(flow.get())->tp_basicsize !=
        static_cast<Py_ssize_t>(offsetof(aio::Runnable::Head, weakrefs)))
        return py::raise(PyExc_ImportError, "asyncio's transports have an unknown layout");
    auto make = [&](Ref (*make_type)(PyObject*, PyObject*), const char* name) {
        Ref kind = attribute("asyncio.transports", name), bases;
        if (kind) bases = Ref::steal(PyTuple_Pack(2, flow.get(), kind.get()));
        return bases ? make_type(module, bases.get()) : Ref();
    };
    datagram_transport = make(DatagramTransport::make_type, "DatagramTransport");
    read_pipe_transport = ReadPipeTransport::make_type(module, read.get());
    write_pipe_transport = make(WritePipeTransport::make_type, "WriteTransport");
    socket_transport = SocketTransport::make_type(module, flow.get());
    ssl_transport = SslTransport::make_type(module, flow.get());
    return datagram_transport && read_pipe_transport && write_pipe_transport && socket_transport &&
           ssl_transport;
}

bool State::check_sockets() {
    Ref socket = Ref::steal(PyObject_CallNoArgs(socket_type.get())), number;
    if (socket) number = Ref::steal(PyObject_CallMethod(socket.get(), "fileno", nullptr));
    if (!number) return false;
    bool same = PyLong_AsLong(number.get()) == fd_of(socket.get());
    Ref closed = Ref::steal(PyObject_CallMethod(socket.get(), "close", nullptr));
    if (!closed) return false;
    if (same && fd_of(socket.get()) == -1) return true;
    return py::raise(PyExc_ImportError, "sockets have an unknown layout");
}

Ref State::settle(PyObject* future, Name method, PyObject* value) const {
    Ref done = py::call_method(future, name(Name::done));
    bool pending = done && done.get() == Py_False;
    return pending ? py::call_method(future, name(method), value) : done;
}

bool State::report(PyObject* loop, PyObject* transport, PyObject* protocol, const char* message,
                   bool fatal) const {
    if (py::ends_program()) return false;
    Ref error = Ref::steal(py::take_raised());
    py::Handling handling(error.get());
    Ref text = Ref::steal(PyUnicode_FromString(message));
    return text && py::call_method(loop, name(Name::_transport_failed), transport,
                                   protocol ? protocol : Py_None, error.get(), text.get(),
                                   fatal ? Py_True : Py_False);
}

bool State::prepare(PyObject* module) {
    if (socket_transport) return true;
    if (!aio::State::prepare(module)) return false;
    for (size_t i = 0; i < names.size(); ++i) {
        names[i] = Ref::steal(PyUnicode_InternFromString(kNames[i]));
        if (!names[i]) return false;
    }
    buffered_protocol = attribute("asyncio.protocols", "BufferedProtocol");
    transport_socket = attribute("asyncio.trsock", "TransportSocket");
    socket_type = attribute("socket", "socket");
    if (!buffered_protocol || !transport_socket || !socket_type || !check_sockets()) return false;
    return streams.init(module) && make_types(module);
}

}  // namespace pyev::net
