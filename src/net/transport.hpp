// Transport: the life of a connection, whatever it is made of.
//
// Owns the descriptor (or the Python socket around it), the protocol, and the way from the first
// call of connection_made() to the one call of connection_lost(). What reads and writes is above.
// The loop owns a transport while it waits for events; it is used in the loop's thread.
#pragma once

#include <Python.h>
#include <ev.h>

#include "aio/loop_base.hpp"
#include "aio/runnable.hpp"
#include "ev/descriptors.hpp"
#include "net/address.hpp"
#include "net/state.hpp"
#include "py/call.hpp"
#include "py/context.hpp"
#include "py/method.hpp"

namespace pyev::net {

class Transport : public aio::Runnable {
 public:
    // Why it is in the ready ring.
    enum What : unsigned { kEvents = 1, kStart, kLost };

    // What one kind of transport does in its own way.
    struct Kind {
        Table table;  // first: it is what the event loop calls
        // connection_made() has been called, and it is not closing.
        void (*started)(Transport*);
        // Of what it waits for, EV_READ and EV_WRITE. False: an exception leaves run_forever().
        bool (*ready)(Transport*, int revents);
        // The connection ends with an error: forget what is not sent.
        void (*drop_unsent)(Transport*);
        // connection_lost() has been called, and the descriptor closed. May run Python code.
        void (*gone)(Transport*);
        int socket;         // its type, or 0: something else that is a descriptor
        const char* fatal;  // what a descriptor that cannot be watched is reported as
    };

    // What a new one is made of.
    struct Parts {
        aio::LoopBase* loop;
        int fd;
        PyObject* protocol;
        PyObject* socket = nullptr;   // Python's, which owns the descriptor; or we do
        PyObject* context = nullptr;  // for the protocol's calls; a copy of the current one
        PyObject* server = nullptr;
        PyObject* waiter = nullptr;     // a future, done when connection_made() has been called
        PyObject* extra = nullptr;      // a dictionary for get_extra_info()
        const Address* peer = nullptr;  // as accept() gave it
    };

    // See py/lock.hpp.
    [[nodiscard]] bool lock(py::Lock& lock, bool) {
        return aio::LoopBase::lock_of(py::read(mutex_, loop_), lock, object());
    }
    bool alive() const { return true; }
    bool enter() const { return true; }
    bool unfinished() const { return fd_ >= 0; }
    void finalize();
    void stop_for_clear();

    template <class F>
    void each_ref(F f) {
        f(head()->extra);
        f(head()->dict);
        f(loop_);
        f(protocol_);
        f(context_);
        f(socket_);
        f(server_);
        f(waiter_);
        f(error_);
    }

    py::Ref get_extra();
    py::Ref set_protocol(py::Args args);
    py::Ref get_protocol() { return protocol_ ? protocol_ : py::Ref::none(); }
    py::Ref is_closing() { return py::Ref::borrow(closing_ ? Py_True : Py_False); }
    py::Ref abort();
    py::Ref force_close_with(PyObject* error);
    py::Ref get_loop() { return loop_ ? loop_ : py::Ref::none(); }
    py::Ref get_fd();
    py::Ref get_socket();

 protected:
    explicit Transport(const Kind* kind);
    ~Transport();

    // Takes over the descriptor, and lets connection_made() be called in the next turn. When it
    // fails (an exception is set) the descriptor stays the caller's.
    [[nodiscard]] bool open(const Parts& parts);

    PyObject* object() { return py::object_of(static_cast<aio::Runnable*>(this)); }
    Head* head() { return reinterpret_cast<Head*>(object()); }
    const Kind& kind() const { return *reinterpret_cast<const Kind*>(table); }
    // Null once the connection is lost.
    aio::LoopBase* loop() const {
        return loop_ ? py::value_of<aio::LoopBase>(loop_.get()) : nullptr;
    }
    bool debug() const { return loop_ && loop()->debug(); }
    // Also when the connection is lost. Null and an exception at the interpreter's end.
    State* state() { return static_cast<State*>(aio::State::of_type(Py_TYPE(object()))); }
    PyObject* name(Name name) { return State::of(*loop()).name(name); }

    int watched() const { return ev_is_active(&io_) ? io_.events & (EV_READ | EV_WRITE) : 0; }
    // Waits for exactly these events from now on. A descriptor that cannot be watched is fatal.
    void watch(int events) {
        if (watched() != events) change_watch(events);
    }

    // Events have come: they are dealt with in their turn.
    void note_events(int revents);
    // Asks a socket for its addresses, before open().
    [[nodiscard]] bool note_addresses(const Parts& parts);
    // Whether the socket is connected to an address.
    bool has_peer();
    // The descriptor, for a system call.
    int fd() const { return socket_ ? fd_of_socket() : fd_; }

    // Calls a method of the protocol in the connection's context.
    template <class... A>
    py::Ref call_protocol(Name method, A... args) {
        py::Ref protocol = protocol_;
        py::InContext entered(context_.get());
        return entered ? py::call_method(protocol.get(), name(method), args...) : py::Ref();
    }

    // The exception that is set ends the connection. False: it leaves run_forever() instead, being
    // SystemExit, KeyboardInterrupt, or what the exception handler raised of these.
    [[nodiscard]] bool fatal(const char* message);
    [[nodiscard]] bool fatal(int number, const char* message);
    // The exception that is set, from a call that has no say in the connection's fate, goes to the
    // exception handler. False as above.
    [[nodiscard]] bool report(const char* message, bool fatal = false);
    // Drops what is not sent, and lets connection_lost(error) be called. False: the loop is closed.
    [[nodiscard]] bool force_close(PyObject* error);
    // Lets connection_lost(error) be called, once. False: the loop is closed.
    [[nodiscard]] bool lose(PyObject* error);
    // For debug mode's log.
    void note(const char* what);

    ev::Watch watch_;
    ev_io io_;
    py::Ref loop_, protocol_, context_, socket_, server_, waiter_, error_;
    char* addresses_ = nullptr;  // the local one, then the peer's: a length byte and so many bytes
    int fd_ = -1;
    unsigned lost_ = 0;          // connection_lost() is due or done; counts the writes since
    unsigned char pending_ = 0;  // events that have come and not been dealt with
    bool closing_ = false;
    bool filled_ = false;                    // get_extra() has
    bool queued_ = false;                    // in the ready ring for kEvents
    bool made_ = false;                      // of a descriptor made here, which nobody has watched
    [[no_unique_address]] py::Mutex mutex_;  // of loop_

 private:
    static void on_event(struct ev_loop*, ev_io* io, int revents);
    static void on_dead(ev::Watch* watch);
    void give_up();
    static bool run(Runnable* runnable, unsigned what);
    static void detach(Runnable* runnable);

    void change_watch(int events);
    int fd_of_socket() const;
    [[nodiscard]] bool run_events();
    [[nodiscard]] bool run_start();
    [[nodiscard]] bool run_lost();
    void unwatch();
    void close_descriptor();
    void leave_server();
    py::Ref address(bool peer) const;
    py::Ref closed_socket(PyObject* type);
    [[nodiscard]] bool note_addresses_of(const Parts& parts);
    [[nodiscard]] bool keep_extra(PyObject* key, PyObject* value);

    template <class T>
    friend struct KindOf;
};

// The table of a kind. T provides started(), ready(), flush(), send_all(), drop_unsent(), gone(),
// kSocket and kFatal.
template <class T>
struct KindOf {
    static constexpr Transport::Kind value = {
        {
            Transport::run,
            [](aio::Runnable* runnable) { return static_cast<T*>(runnable)->flush(); },
            [](aio::Runnable* runnable) { return static_cast<T*>(runnable)->send_all(); },
            Transport::detach,
        },
        [](Transport* transport) { static_cast<T*>(transport)->started(); },
        [](Transport* transport, int revents) {
            return static_cast<T*>(transport)->ready(revents);
        },
        [](Transport* transport) { static_cast<T*>(transport)->drop_unsent(); },
        [](Transport* transport) { static_cast<T*>(transport)->gone(); },
        T::kSocket,
        T::kFatal,
    };
};

}  // namespace pyev::net
