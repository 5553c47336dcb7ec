// Flow: a transport whose two directions can be held back.
//
// The user stops what comes in by pause_reading(); the transport stops a protocol that writes more
// than the kernel takes by pause_writing(), at asyncio's water marks.
#pragma once

#include <Python.h>

#include "net/transport.hpp"

namespace pyev::net {

class Flow : public Transport {
 public:
    // Rows that every type repeats.
    static PyMethodDef kMethods[];
    static PyGetSetDef kAttributes[];

    void started();

    py::Ref is_reading() { return py::Ref::borrow(reading() ? Py_True : Py_False); }
    py::Ref pause_reading();
    py::Ref resume_reading();
    py::Ref get_write_buffer_limits();
    py::Ref get_protocol_paused();

 protected:
    using Transport::Transport;

    bool reading() const { return !closing_ && !paused_; }
    // The kernel has refused something: what is written waits for EV_WRITE.
    bool blocked() const { return watched() & EV_WRITE; }
    size_t high() const { return high_; }
    // The arguments of set_write_buffer_limits().
    [[nodiscard]] bool set_limits(py::Args args);
    // Calls pause_writing() where so much is unsent, and resume_writing() where so little is.
    [[nodiscard]] bool pause_protocol(size_t unsent);
    [[nodiscard]] bool resume_protocol(size_t unsent);
    // For repr().
    py::Ref describe(size_t unsent);
    // A write after the connection is lost: dropped, with a warning when there are many.
    [[nodiscard]] bool note_late_write(const char* warning);

 private:
    size_t high_ = 64 * 1024, low_ = 16 * 1024;  // bytes
    bool paused_ = false;                        // pause_reading()
    bool protocol_paused_ = false;
};

// A system call that may succeed later.
inline bool again(int number) {
    return number == EAGAIN || number == EWOULDBLOCK || number == EINTR;
}

}  // namespace pyev::net
