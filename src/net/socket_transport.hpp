// SocketTransport: TCP and unix stream sockets.
#pragma once

#include <Python.h>
#include <sys/socket.h>

#include "net/stream.hpp"
#include "py/object.hpp"

namespace pyev::net {

class SocketTransport : public Stream {
 public:
    static const py::TypeInfo kType;
    static constexpr int kSocket = SOCK_STREAM;
    static constexpr const char* kFatal = "Fatal error on socket transport";

    SocketTransport();

    // The Python type, a subclass of asyncio's `base`.
    static py::Ref make_type(PyObject* module, PyObject* base);
    // One on a connected, non-blocking socket. Empty on failure: the descriptor is still the
    // caller's.
    static py::Ref make(State& state, const Parts& parts);

    bool init(py::Args) { return true; }
};

}  // namespace pyev::net
