// Stream: a transport of bytes, with what is read and written and how both are held back.
//
//   kernel > ev_io > Stream > protocol
//   protocol > write() > WriteQueue > one vectored send at the end of the turn
//
// What is written in a turn leaves at its end; at once when it is much, when the loop's thread is
// not in a turn, and before pause_writing() is considered: a protocol is paused only for what the
// kernel has refused. Flow control is asyncio's, with its water marks.
#pragma once

#include <Python.h>
#include <sys/uio.h>

#include "net/flow.hpp"
#include "net/write_queue.hpp"

namespace pyev::net {

// What stands between a stream and the user's protocol, being the stream's protocol itself: it is
// handed what is read where it was read.
struct Sink {
    struct Table {
        // In the connection's context. False: the exception that is set is fatal to the connection.
        bool (*take)(Sink*, const char* data, size_t size);
        // What it keeps is to be put(): as far as takes() has it, or all. Called when everything
        // that it has put() is sent, and before the stream ends. False: the exception that is set
        // leaves run_forever().
        bool (*flush)(Sink*, bool all);
    };
    explicit Sink(const Table* table) : sink(table) {}
    const Table* sink;
};

class Stream : public Flow {
 public:
    // How a descriptor is read and written: -1 and errno when it fails.
    struct Device {
        Kind kind;  // first
        ssize_t (*read)(int fd, void* buffer, size_t size);
        ssize_t (*write)(int fd, const iovec* vectors, int count);
        int (*shut)(int fd);     // no more will be written
        size_t (*room)(int fd);  // of the kernel, for bytes and what it keeps with them; or null
        const char* read_failed;
        const char* write_failed;
        const char* late_write;  // the warning about writes after the end
        // asyncio's rules for pipes: the end of input closes whatever eof_received() says, what
        // data_received() raises does not, and nothing is written once close() was called.
        bool pipe;
    };

    // This much is not kept back until the turn's end: a system call costs little beside copying
    // it.
    static constexpr size_t kFlushAt = 64 * 1024;

    // Rows that every type repeats, and those of what can be written.
    static PyMethodDef kMethods[];
    static PyMethodDef kWriteMethods[];

    template <class F>
    void each_ref(F f) {
        Flow::each_ref(f);
        f(empty_waiter_);
    }
    template <class F>
    int visit(F f) {
        return queue_.visit(f);
    }

    // What Kind asks for.
    bool ready(int revents);
    bool flush();
    bool send_all();
    void drop_unsent() { queue_.clear(); }
    void gone();

    // For the sink. Whether it may put() more; if not, flush() will be called.
    bool takes();
    // Sends, at once or at the end of the turn, and keeps what the kernel has no room for. False as
    // of flush().
    [[nodiscard]] bool put(const char* data, size_t size, bool later);
    size_t unsent_size() const { return queue_.size(); }

    py::Ref write(py::Args args);
    py::Ref writelines(py::Args args);
    py::Ref write_eof();
    py::Ref can_write_eof() { return py::Ref::borrow(Py_True); }
    py::Ref close();
    py::Ref set_protocol(py::Args args);
    py::Ref set_write_buffer_limits(py::Args args);
    py::Ref get_write_buffer_size();
    py::Ref make_empty_waiter();
    py::Ref reset_empty_waiter();
    py::Ref repr();

 protected:
    explicit Stream(const Device* device) : Flow(&device->kind) {}

    const Device& device() const { return reinterpret_cast<const Device&>(kind()); }
    // See Transport::open.
    [[nodiscard]] bool open(const Parts& parts);
    bool unsent() const { return !queue_.empty(); }

    bool apart_ = false;  // each write is a message of its own

 private:
    [[nodiscard]] bool learn(PyObject* protocol);
    py::Ref read_bytes(ssize_t& size);
    [[nodiscard]] bool receive();
    [[nodiscard]] bool read_data();
    [[nodiscard]] bool read_for_reader();
    [[nodiscard]] bool data_failed();
    [[nodiscard]] bool callback_failed(const char* message);
    [[nodiscard]] bool read_into_protocol();
    [[nodiscard]] bool read_for_sink();
    [[nodiscard]] bool read_nothing(ssize_t result);
    [[nodiscard]] bool read_failed(int number);
    [[nodiscard]] bool shut_down();
    [[nodiscard]] bool write_ready();
    size_t allowance();
    size_t certain();
    void wait_to_write() { watch(watched() | EV_WRITE); }
    [[nodiscard]] bool hand_over(const iovec* vectors, int count, size_t& sent);
    [[nodiscard]] bool send();
    [[nodiscard]] bool send_now(const char* data, size_t size, size_t& sent);
    [[nodiscard]] bool shut_write();
    [[nodiscard]] bool write_failed(int number);
    [[nodiscard]] bool settle();
    bool too_late() const;
    [[nodiscard]] bool note_late_write();
    [[nodiscard]] bool append(PyObject* data);
    [[nodiscard]] bool appended();
    [[nodiscard]] bool may_write(const char* function);
    void end_empty_waiter(Name method, PyObject* value);

    WriteQueue queue_;
    Sink* sink_ = nullptr;   // the protocol, if it is one
    py::Ref empty_waiter_;   // sendfile's: a future, done when all is sent
    uint32_t turn_ = 0;      // in which so much may
    uint32_t left_ = 0;      // still be sent
    uint32_t asked_ = 0;     // the turn in which the kernel told
    uint32_t room_ = 0;      // that it has so much room
    uint32_t expected_ = 0;  // what the last read brought
    bool eof_ = false;       // write_eof()
    bool buffered_ = false;  // the protocol is a BufferedProtocol
    bool feeds_ = false;     // or asyncio's StreamReaderProtocol
};

}  // namespace pyev::net
