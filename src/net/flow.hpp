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
    static PyMethodDef kReadMethods[];  // of what can be read
    static PyGetSetDef kAttributes[];

    // asyncio's: so many writes after the end are tolerated in silence.
    static constexpr unsigned kLateWrites = 5;
    // Writes a warning to asyncio's log.
    [[nodiscard]] static bool warn(const char* text);

    void started();

    py::Ref is_reading() { return py::Ref::borrow(reading() ? Py_True : Py_False); }
    py::Ref pause_reading();
    py::Ref resume_reading();
    py::Ref get_write_buffer_limits();
    py::Ref get_paused();
    py::Ref get_protocol_paused();

 protected:
    using Transport::Transport;

    bool reading() const { return !closing_ && !paused_; }
    // The kernel has refused something: what is written waits for EV_WRITE.
    bool blocked() const { return watched() & EV_WRITE; }
    size_t high() const { return high_; }
    bool protocol_paused() const { return protocol_paused_; }
    // The arguments of set_write_buffer_limits().
    [[nodiscard]] bool set_limits(py::Args args);
    // Calls pause_writing() where so much is unsent, and resume_writing() where so little is.
    [[nodiscard]] bool pause_protocol(size_t unsent) {
        return unsent <= high_ || protocol_paused_ || lost_ || tell_to_pause();
    }
    [[nodiscard]] bool resume_protocol(size_t unsent) {
        return !protocol_paused_ || unsent > low_ || tell_to_resume();
    }
    // For repr().
    py::Ref describe(size_t unsent);
    // A write after the connection is lost: dropped, with a warning when there are many.
    [[nodiscard]] bool note_late_write(const char* warning);

 private:
    [[nodiscard]] bool tell_to_pause();
    [[nodiscard]] bool tell_to_resume();

    static constexpr size_t kHigh = 64 * 1024;  // asyncio's

    size_t high_ = kHigh, low_ = kHigh / 4;  // bytes
    bool paused_ = false;                    // pause_reading()
    bool protocol_paused_ = false;
};

// What set_write_buffer_limits(high=None, low=None) and its kin make of their arguments, as asyncio
// does; `initial` is the high mark that is meant by none.
[[nodiscard]] bool water_marks(const char* function, py::Args args, size_t initial, size_t& high,
                               size_t& low);

// Asks what is to be written for its bytes, which it may refuse, before anything is queued. May run
// Python code. False: an exception is set.
[[nodiscard]] bool gives_bytes(PyObject* piece);

// What get_write_buffer_limits() and its kin return.
py::Ref marks(size_t low, size_t high);

// Marks a type of transports for loop.start_tls() and loop.sendfile(); `mode` is asyncio's name of
// how the latter works.
[[nodiscard]] bool allow_upgrades(PyObject* type, const char* mode);

// A system call that may succeed later.
inline bool again(int number) {
    return number == EAGAIN || number == EWOULDBLOCK || number == EINTR;
}

}  // namespace pyev::net
