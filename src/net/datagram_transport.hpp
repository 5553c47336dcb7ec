// DatagramTransport: UDP and unix datagram sockets.
//
// Each datagram is sent at once, so that error_received() is told at the call that it is about.
// What the kernel has no room for waits in order. Several are read for each event.
#pragma once

#include <Python.h>
#include <sys/socket.h>

#include "net/flow.hpp"
#include "py/array.hpp"
#include "py/object.hpp"

namespace pyev::net {

class DatagramTransport : public Flow {
 public:
    static const py::TypeInfo kType;
    static constexpr int kSocket = SOCK_DGRAM;
    static constexpr const char* kFatal = "Fatal error on datagram transport";

    DatagramTransport();
    ~DatagramTransport() { drop_unsent(); }

    static py::Ref make_type(PyObject* module, PyObject* bases);
    // One on a socket that Python has made. `address` is what every datagram goes to, or null.
    static py::Ref make(State& state, const Parts& parts, PyObject* address);

    template <class F>
    void each_ref(F f) {
        Flow::each_ref(f);
        f(address_);
        f(known_);
        f(unread_);
    }
    template <class F>
    int visit(F f) {
        for (size_t i = first_; i < queue_.size(); ++i) {
            if (int result = f(queue_[i].data)) return result;
            if (int result = f(queue_[i].address)) return result;
        }
        return 0;
    }

    // What Kind asks for.
    bool ready(int revents);
    bool flush() { return true; }
    bool send_all() { return true; }
    void drop_unsent();
    void gone() {}

    bool init(py::Args) { return true; }
    py::Ref sendto(py::Args args);
    py::Ref close();
    py::Ref resume_reading();
    py::Ref set_write_buffer_limits(py::Args args);
    py::Ref get_write_buffer_size();
    py::Ref repr() { return describe(size_); }

 private:
    struct Datagram {
        PyObject* data;     // bytes; owned
        PyObject* address;  // or None; owned
    };
    enum class Sent { kYes, kLater, kFailed };  // failed: an exception is set

    [[nodiscard]] bool read();
    [[nodiscard]] bool read_by_socket();
    [[nodiscard]] bool read_failed();
    [[nodiscard]] bool deliver(PyObject* data, PyObject* address);
    [[nodiscard]] bool deliver_unread();
    void deliver_later();
    [[nodiscard]] bool keep_unread(PyObject* data, PyObject* address);
    py::Ref sender(const Address& address);
    Sent send(PyObject* data, PyObject* address);
    Sent send_by_socket(PyObject* data, PyObject* address);
    // What send() raised. False: it leaves run_forever(), or the caller is to raise it.
    [[nodiscard]] bool failed();
    [[nodiscard]] bool send_queue();
    bool waits() { return first_ < queue_.size(); }
    void drop_first();
    [[nodiscard]] bool settle();

    py::Ref address_;            // None, or what every datagram goes to
    py::Ref known_;              // the last address that was converted, one way or the other ...
    Address known_address_;      // ... and what it is to the kernel
    py::Ref unread_;             // a list of (data, address): read, and not wanted yet
    py::Array<Datagram> queue_;  // from first_ on
    size_t first_ = 0;
    size_t size_ = 0;  // of the queue, as asyncio counts: bytes, and 8 for each datagram
    int family_ = 0;
    bool connected_ = false;
    bool spelled_ = false;  // known_ is what Python's sockets would make of known_address_
};

}  // namespace pyev::net
