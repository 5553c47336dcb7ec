// StdlibEngine: TLS by the objects of Python's ssl, for where OpenSSL itself cannot be reached, and
// for SSLObjects of a class of the user's own.
#pragma once

#include <Python.h>

#include "net/tls_engine.hpp"

namespace pyev::net {

class StdlibEngine : public TlsEngine {
 public:
    // `incoming` and `outgoing` are the ssl.MemoryBIOs of the SSLObject `object`. Null: an
    // exception is set.
    static TlsEngine* make(State& state, PyObject* object, PyObject* incoming, PyObject* outgoing);

    bool feed(const char* records, size_t size) override;
    size_t left() const override { return 0; }
    bool pending() override { return true; }

    Result handshake(Output& output) override;
    Result read(char* into, size_t size, size_t& count, Output& output) override;
    Result write(const char* data, size_t size, Output& output) override;
    Result shut(Output& output) override;

 private:
    explicit StdlibEngine(State& state) : state_(state) {}

    Result result_of(const py::Ref& answer, Output& output);

    State& state_;
    py::Ref incoming_, outgoing_;
};

}  // namespace pyev::net
