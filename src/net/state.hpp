// What the net layer keeps per interpreter: the transports' types, asyncio's classes that they
// need, and the names of what they call. Filled when the first event loop is made.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>

#include "aio/loop_base.hpp"
#include "aio/state.hpp"
#include "net/streams.hpp"
#include "net/tls_engine.hpp"

namespace pyev::net {

// Methods of protocols, loops, servers and futures, and keys of their extra information.
// clang-format off
#define PYEV_NAMES(X) \
    X(connection_made) X(connection_lost) X(data_received) X(eof_received) X(get_buffer) \
    X(buffer_updated) X(datagram_received) X(error_received) X(pause_writing) \
    X(resume_writing) X(create_future) X(set_result) X(set_exception) X(done) X(detach) \
    X(getsockname) X(getpeername) X(sendto) X(socket) X(sockname) X(peername) X(_attach) \
    X(_detach) X(_transport_failed) X(_transport_note) X(_accept_failed) X(_welcome_failed) \
    X(close) X(cancel) X(call_later) X(is_closing) X(pause_reading) X(resume_reading) \
    X(get_extra_info) X(_force_close) X(_time_out) X(write) \
    X(read) X(unwrap) X(do_handshake) X(wrap_bio) X(_sslobj) X(context) X(sslcontext) \
    X(ssl_object) X(getpeercert) X(_peer_certificate) X(peercert) X(close_notify) X(cipher) X(compression)

enum class Name {
#define PYEV_NAME(name) name,
    PYEV_NAMES(PYEV_NAME)
#undef PYEV_NAME
    count,
};
// clang-format on

class State : public aio::State {
 public:
    // Types of ours.
    py::Ref socket_transport, datagram_transport, read_pipe_transport, write_pipe_transport;
    py::Ref ssl_transport;
    py::Ref buffered_protocol, transport_socket;  // asyncio's
    py::Ref socket_type;                          // socket.socket
    std::array<py::Ref, static_cast<size_t>(Name::count)> names;
    TlsNames tls;
    Streams streams;

    PyObject* name(Name name) const { return names[static_cast<size_t>(name)].get(); }

    // Calls future.set_result(value) or set_exception(value), `method`, unless it is done. Empty:
    // an exception is set.
    py::Ref settle(PyObject* future, Name method, PyObject* value) const;
    // The exception that is set goes to the exception handler. False: it leaves run_forever()
    // instead, being SystemExit, KeyboardInterrupt, or what the handler raised of these. An OSError
    // that is fatal to the connection is what connection_lost() is for: it is only logged.
    [[nodiscard]] bool report(PyObject* loop, PyObject* transport, PyObject* protocol,
                              const char* message, bool fatal = false) const;

    [[nodiscard]] bool prepare(PyObject* module) override;

    // The descriptor of a socket.socket without a call: CPython keeps it right behind the object's
    // head, which prepare() makes sure of.
    static int fd_of(PyObject* socket) { return *reinterpret_cast<int*>(socket + 1); }

    static State& of(aio::LoopBase& loop) { return static_cast<State&>(loop.state()); }

    template <class F>
    void each_ref(F f) {
        aio::State::each_ref(f);
        for (auto& name : names) f(name);
        tls.each_ref(f);
        streams.each_ref(f);
        f(socket_transport);
        f(datagram_transport);
        f(read_pipe_transport);
        f(write_pipe_transport);
        f(ssl_transport);
        f(buffered_protocol);
        f(transport_socket);
        f(socket_type);
    }

 private:
    [[nodiscard]] bool make_types(PyObject* module);
    [[nodiscard]] bool check_sockets();
};

}  // namespace pyev::net
