// What the net layer keeps per interpreter.
#include "net/state.hpp"

#include "net/socket_transport.hpp"

namespace pyev::net {

using py::Ref;

static constexpr const char* kNames[] = {
    "connection_made",
    "connection_lost",
    "data_received",
    "eof_received",
    "get_buffer",
    "buffer_updated",
    "pause_writing",
    "resume_writing",
    "close",
    "create_future",
    "set_result",
    "set_exception",
    "done",
    "detach",
    "getsockname",
    "getpeername",
    "fileno",
    "socket",
    "sockname",
    "peername",
    "_attach",
    "_detach",
    "_transport_failed",
    "_transport_note",
    "_accept_failed",
    "_welcome_failed",
};
static_assert(std::size(kNames) == static_cast<size_t>(Name::count));

static Ref attribute(const char* module, const char* name) {
    Ref found = Ref::steal(PyImport_ImportModule(module));
    return found ? Ref::steal(PyObject_GetAttrString(found.get(), name)) : Ref();
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
    if (!buffered_protocol || !transport_socket || !socket_type) return false;
    Ref base = attribute("asyncio.transports", "_FlowControlMixin");
    if (base) socket_transport = SocketTransport::make_type(module, base.get());
    return static_cast<bool>(socket_transport);
}

}  // namespace pyev::net
