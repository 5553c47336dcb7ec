// ReadPipeTransport and WritePipeTransport: pipes, character devices, and sockets used one way.
//
// The descriptor belongs to a Python file object. It is made non-blocking.
#pragma once

#include <Python.h>

#include "net/stream.hpp"
#include "py/object.hpp"

namespace pyev::net {

class ReadPipeTransport : public Stream {
 public:
    static const py::TypeInfo kType;
    static constexpr int kSocket = 0;
    static constexpr const char* kFatal = "Fatal error on pipe transport";

    ReadPipeTransport();

    static py::Ref make_type(PyObject* module, PyObject* bases);
    static py::Ref make(State& state, const Parts& parts);

    bool init(py::Args) { return true; }
};

class WritePipeTransport : public Stream {
 public:
    static const py::TypeInfo kType;
    static constexpr int kSocket = 0;
    static constexpr const char* kFatal = "Fatal error on pipe transport";

    WritePipeTransport();

    static py::Ref make_type(PyObject* module, PyObject* bases);
    static py::Ref make(State& state, const Parts& parts);

    // What Kind asks for, where it is not as Stream has it: the other end going away is an event.
    void started();
    bool ready(int revents);

    bool init(py::Args) { return true; }
    py::Ref write_eof() { return close(); }

 private:
    bool tells_hang_up_ = false;  // a character device does not
};

}  // namespace pyev::net
