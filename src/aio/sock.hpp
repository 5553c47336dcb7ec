// The sock_* methods of an event loop: each call is an Operation, a coroutine made natively.
//
// It tries the system call when it is first awaited, and again whenever the loop has found the
// descriptor ready; in between it waits on a future. Nothing is received on behalf of a task that
// does not run: a cancelled operation has taken nothing, and leaves its number free at once.
#pragma once

#include <Python.h>

#include "py/coroutine.hpp"
#include "py/method.hpp"
#include "py/object.hpp"
#include "py/ref.hpp"

namespace pyev::aio {

class LoopBase;
class Operation;

enum class Outcome { kDone, kAgain, kFailed };

// What tells one method from another.
struct OperationKind {
    const char* function;
    const char* parameters[3];  // the first is the socket
    int size, required;
    int events;          // what to wait for; 0: the second argument says it
    const char* method;  // of a socket, called with the other arguments; null: none
    Outcome (*attempt)(Operation&, py::Ref& result);
};

// What all operations of an interpreter share.
class Sockets {
 public:
    [[nodiscard]] bool init();
    bool ready() const { return static_cast<bool>(future_names); }
    template <class F>
    void each_ref(F f) {
        for (py::Ref* ref : {&operation, &socket, &fileno, &check_ssl, &future, &future_done,
                             &set_result, &future_names, &module, &getaddrinfo})
            f(*ref);
    }

    py::Ref operation;  // our type
    py::Ref module;     // socket, and the name of its function
    py::Ref getaddrinfo;
    py::Ref socket;  // socket.socket, and its fileno
    py::Ref fileno;
    py::Ref check_ssl;  // asyncio's own
    py::Ref future;     // asyncio.Future, and two methods
    py::Ref future_done, set_result;
    py::Ref future_names;  // ("loop",)
};

class Operation {
 public:
    static const py::TypeInfo kType;

    static py::Ref make(LoopBase* loop, const OperationKind& kind, py::Args args);
    // One that has its result already.
    static py::Ref make_done(LoopBase* loop, const OperationKind& kind, const py::Ref& result);
    ~Operation() {
        finish();
        py::let_rest(stop());
    }

    // See py/lock.hpp.
    [[nodiscard]] bool lock(py::Lock& lock, bool waits);

    // The descriptor is ready, or was found closed: the task looks again.
    void wake();
    // The kernel would not have the descriptor watched, as the errno says: it fails with that.
    void refuse(int number) { refused_ = number; }

    template <class F>
    void each_ref(F f) {
        for (py::Ref* ref :
             {&loop_, &socket_, &arguments_[0], &arguments_[1], &view_, &future_, &waiter_})
            f(*ref);
    }
    bool enter() { return true; }
    bool alive() { return true; }
    bool init(py::Args) { return true; }
    void stop_for_clear() { finish(); }
    bool unfinished() const { return phase_ == Phase::kCreated; }
    void finalize();
    py::Ref repr();

    PySendResult step(PyObject* value, PyObject** result);
    bool fresh() const { return phase_ == Phase::kCreated; }
    py::Stop* stop();
    py::Ref throw_in(py::Args args);
    py::Ref close();
    py::Ref get_name();

    // The attempts.
    static Outcome call(Operation& self, py::Ref& result);
    static Outcome accept(Operation& self, py::Ref& result);
    static Outcome recv(Operation& self, py::Ref& result);
    static Outcome recv_into(Operation& self, py::Ref& result);
    static Outcome recvfrom_into(Operation& self, py::Ref& result);
    static Outcome sendall(Operation& self, py::Ref& result);
    static Outcome wait_only(Operation& self, py::Ref& result);
    static Outcome answer(Operation& self, py::Ref& result);

 private:
    enum class Phase : unsigned char { kNone, kCreated, kRunning, kWaiting, kOver };

    LoopBase* loop() const;
    const Sockets& sockets() const;
    PyObject* object() { return py::object_of(this); }
    [[nodiscard]] bool check();
    [[nodiscard]] bool resume();
    [[nodiscard]] bool wait(py::Ref& future);
    [[nodiscard]] bool watch();
    [[nodiscard]] bool fileno(int& fd) const;
    Outcome send_part(py::Ref& result);
    bool watching() const;
    void unwatch();
    void finish();
    void forget();

    py::Ref loop_, socket_, arguments_[2];
    py::Ref view_;             // what a socket of another class is yet to send
    py::Ref future_, waiter_;  // while it waits; the second iterates over the first
    const OperationKind* kind_ = nullptr;
    Py_buffer buffer_ = {};  // what is being sent
    Py_ssize_t sent_ = 0;
    int events_ = 0;
    int fd_ = -1;  // that the loop watches
    int refused_ = 0;
    Phase phase_ = Phase::kNone;
    bool waited_ = false;
    bool plain_ = false;  // exactly a socket.socket: no method of its own to call
};

extern const OperationKind kSockRecv, kSockRecvInto, kSockRecvfrom, kSockRecvfromInto, kSockSendall,
    kSockSendto, kSockAccept, kSockWait, kGetaddrinfo;

}  // namespace pyev::aio
