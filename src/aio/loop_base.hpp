// LoopBase: the native half of pyev.EventLoop.
//
// Events only push to the ready ring; only `run` pops, and in each turn only what was there when
// the turn began. It drives a pyev.Loop, which then reports what its watchers raise to the
// exception handler of asyncio.
#pragma once

#include <Python.h>
#include <ev.h>

#include "aio/current.hpp"
#include "aio/names.hpp"
#include "aio/readers.hpp"
#include "aio/ready.hpp"
#include "aio/sock.hpp"
#include "aio/state.hpp"
#include "aio/timers.hpp"
#include "aio/transports.hpp"
#include "ev/loop.hpp"
#include "py/method.hpp"

namespace pyev::aio {

class LoopBase : private ev::Driver {
 public:
    static const py::TypeInfo kType;

    LoopBase();
    ~LoopBase() {
        shut();
        PyMem_RawFree(read_buffer_);
        if (state_) state_->release();
    }

    bool init(py::Args args);
    // See py/lock.hpp. What is called by mistake in another thread while the loop runs waits for
    // its next poll, where with a GIL it would wait for that.
    [[nodiscard]] bool lock(py::Lock& lock, bool) {
        return !loop_ || loop()->lock(lock, true, loop_);
    }
    static constexpr bool kReadable = true;
    // Of what belongs to the event loop in `owner`, if there is one, else to nobody but itself.
    [[nodiscard]] static bool lock_of(const py::Ref& owner, py::Lock& lock, PyObject* object) {
        if (owner) return py::value_of<LoopBase>(owner.get())->lock(lock, true);
        lock.begin(object);
        return true;
    }
    bool alive();
    bool enter() { return alive(); }

    bool debug() const { return debug_; }
    bool closed() const { return closed_; }
    State& state() const { return *state_; }
    PyObject* object() { return py::object_of(this); }
    ev::Loop* loop() const { return py::value_of<ev::Loop>(loop_.get()); }
    HandleTypes& handles() const { return state_->handles; }
    Current& current() { return current_; }
    const Sockets& sockets() const { return state_->sockets; }
    const Waiters& waiters() const { return state_->waiters; }
    Readers& readers() { return readers_; }
    static LoopBase* of(ev::Driver* driver) { return static_cast<LoopBase*>(driver); }
    void forget_timer(PyObject* handle) { timers_.remove(handles(), handle); }
    bool holds_timer(PyObject* handle) { return timers_.holds(handles(), handle); }
    // Has an operation woken when its socket is ready. `open`: see Readers.
    [[nodiscard]] bool watch_operation(PyObject* socket, int fd, int events, PyObject* operation,
                                       bool open);
    // An event has come for a transport, a handle, or an operation.
    [[nodiscard]] bool push_event(Runnable* runnable, unsigned what);
    void push_event(PyObject* object);
    // Queues callback(*args), as call_soon() does.
    [[nodiscard]] bool soon(PyObject* callback, PyObject* args, PyObject* context);
    // Queues a transport, see Runnable.
    [[nodiscard]] bool push(Runnable* runnable, unsigned what);
    Transports& transports() { return transports_; }
    // The exception that is set has nobody to go to. One that ends the program leaves the run in
    // the next turn, others go to sys.unraisablehook.
    void put_aside(PyObject* source);
    // Something was sent or closed, and may come back to this very loop, or is watched from now on
    // and may be ready: the next turn polls, as all of asyncio's do.
    void poll_next() { poll_ = true; }
    // The same, where it is libev that watches from now on: another thread's poll ends for it.
    void poll_anew() {
        poll_next();
        if (running_ && !in_turn()) loop()->wake();
    }
    // What is written now can wait for the turn's end: this thread is in a turn.
    uint32_t turn_number() const { return turn_number_; }
    bool in_turn() const { return thread_ == py::this_thread(); }
    // What was written is being sent, and no protocol may be called.
    bool forking() const { return forking_; }
    // Where bytes are read to before they become an object: one for all, so it stays in the cache.
    static constexpr size_t kReadSize = 256 * 1024;
    char* read_buffer();
    // Where bytes lie before they are sent. Empty: whoever uses it takes it away meanwhile.
    py::Array<char>& spare() { return spare_; }
    // Has it look at its socket, if it is an operation, or fail with the errno `refused`; false
    // when it is a handle.
    bool wake_operation(PyObject* handle, int refused);
    // A reader's or writer's descriptor was closed behind our back, or was `refused`: an errno.
    void report_unwatched(PyObject* handle, int fd, int refused);

    template <class F>
    void each_ref(F f) {
        f(loop_);
        f(asyncio_transports_);
        f(loop_argument_);
    }
    template <class F>
    int visit(F f) {
        if (int result = ready_.visit(f)) return result;
        for (PyObject* handle : inbox_)
            if (int result = f(handle)) return result;
        if (int result = timers_.visit(f)) return result;
        if (int result = transports_.visit(f)) return result;
        if (loop_ && driving())
            if (int result = visit_waiting(loop(), f)) return result;
        return readers_.visit(f);
    }
    void stop_for_clear() { shut(); }
    bool unfinished() const { return false; }
    void finalize() {}
    py::Ref repr();

    py::Ref call_soon(py::Args args);
    py::Ref call_soon_threadsafe(py::Args args);
    py::Ref call_later(py::Args args);
    py::Ref call_at(py::Args args);
    py::Ref time();
    py::Ref run();
    py::Ref refuse_run();
    py::Ref stop();
    py::Ref wake();
    py::Ref close();
    py::Ref add_callback(PyObject* handle);
    py::Ref add_reader(py::Args args) { return add(args, EV_READ, "add_reader", true); }
    py::Ref add_writer(py::Args args) { return add(args, EV_WRITE, "add_writer", true); }
    py::Ref remove_reader(PyObject* fd) { return remove(fd, EV_READ, true); }
    py::Ref remove_writer(PyObject* fd) { return remove(fd, EV_WRITE, true); }
    py::Ref add_reader_hook(py::Args args) { return add(args, EV_READ, "_add_reader", false); }
    py::Ref add_writer_hook(py::Args args) { return add(args, EV_WRITE, "_add_writer", false); }
    py::Ref remove_reader_hook(PyObject* fd) { return remove(fd, EV_READ, false); }
    py::Ref remove_writer_hook(PyObject* fd) { return remove(fd, EV_WRITE, false); }
    template <const OperationKind& Kind>
    py::Ref sock(py::Args args) {
        return Operation::make(this, Kind, args);
    }
    py::Ref getaddrinfo(py::Args args);
    py::Ref watching(PyObject* fd);
    py::Ref transport_of(PyObject* fd);
    py::Ref exchange_handler(py::Args args);
    py::Ref keep_signals(PyObject* kept);

    py::Ref create_task(py::Args args);
    py::Ref create_future();

    py::Ref get_ev() { return loop_; }
    py::Ref is_running();
    py::Ref get_debug();
    bool set_debug(PyObject* debug);
    py::Ref get_stopping();
    bool set_stopping(PyObject* stopping);
    py::Ref get_ready();
    py::Ref get_scheduled();
    bool ignore(PyObject*) { return true; }

 private:
    // What the call_... methods take.
    struct Call {
        PyObject* first = nullptr;  // delay or when
        PyObject* callback = nullptr;
        PyObject* context = nullptr;
        Values values = {nullptr, 0};
    };

    static int set_attribute(PyObject* self, PyObject* name, PyObject* value);
    static void report(Driver* driver, PyObject* source);
    static void stop_driver(Driver* driver);
    static bool signalled(Driver* driver, int signum);
    static bool busy(Driver* driver);
    static PyType_Slot extra_slots[];

    [[nodiscard]] bool parse(const char* function, const char* first, py::Args args, Call& call);
    [[nodiscard]] bool check(const char* function, PyObject* callback, bool thread);
    [[nodiscard]] bool find_clock();
    [[nodiscard]] bool now(double& result);
    PyObject* loop_argument();
    py::Ref schedule(PyObject* when, double time, Call& call);
    py::Ref soon(const char* function, py::Args args, bool any_thread);
    py::Ref add(py::Args args, int events, const char* function, bool checked);
    py::Ref remove(PyObject* fd, int events, bool checked);
    // RuntimeError when a transport has the descriptor; `file` is what the caller gave.
    [[nodiscard]] bool no_transport(PyObject* file, int fd);
    [[nodiscard]] bool drop(const py::Ref& handle);
    [[nodiscard]] bool traced(PyObject* handle);
    // Without a GIL. Of whoever is not in a turn: the loop runs in another thread.
    bool elsewhere() const {
        unsigned long thread = thread_;
        return thread && thread != py::this_thread();
    }
    [[nodiscard]] py::Ref soon_from_outside(py::Args args);
    [[nodiscard]] bool empty_inbox();
    [[nodiscard]] bool take_posted();
    void leave_turns();
    [[nodiscard]] bool turn();
    [[nodiscard]] bool poll_events(bool block);
    [[nodiscard]] bool collect_due();
    [[nodiscard]] bool run_handle(py::Ref handle);
    [[nodiscard]] bool run_kept(PyObject* handle);
    [[nodiscard]] bool run_callback(PyObject* handle);
    [[nodiscard]] bool report_handle(PyObject* handle, PyObject* error);
    void track(PyObject* handle) {
        if (!running_) HandleTypes::track(handle);
    }
    [[nodiscard]] bool run_transport(PyObject* transport, unsigned what);
    [[nodiscard]] bool flush();
    [[nodiscard]] bool send_before_fork();
    // Something was queued, from whatever thread. The loop's own sees it before it polls again.
    bool ends_poll() const { return running_ && (polling_ || !in_turn()); }
    void end_poll() {
        if (!running_) return;
        if (!in_turn())
            loop()->wake_from_outside();
        else if (polling_)
            loop()->wake();
    }
    void disarm();
    bool driving() const { return loop()->driver() == this; }
    void shut();

    State* state_ = nullptr;
    py::Ref loop_;                // pyev.Loop
    py::Ref asyncio_transports_;  // by descriptor
    py::Ref loop_argument_;       // {"loop": this}, once it was needed
    bool debug_ = false;
    py::Atomic<bool> closed_ = false;
    py::Atomic<bool> stopping_ = false;
    py::Atomic<bool> running_ = false;
    py::Atomic<bool> has_thread_ = false;  // `_thread_id` is set
    bool own_clock_ = true;                // nobody has put another `time` or `call_at` in place
    bool task_factory_ = false;            // somebody has set one
    bool poll_ = false;                    // the next turn polls
    bool forking_ = false;
    bool polling_ = false;     // or calling watchers
    unsigned since_poll_ = 0;  // callbacks
    int64_t polled_at_ = 0;    // by coarse_milliseconds()
    uint32_t turn_number_ = 0;
    double armed_ = 0;  // what timer_ waits for, when it is active
    ev_timer timer_;
    Ready ready_;
    // Handles that other threads have queued while the loop runs; owned, behind the gate of `loop`.
    py::Array<PyObject*> inbox_;
    Timers timers_;
    Readers readers_;
    Current current_;
    Names names_;
    Transports transports_;
    py::Atomic<unsigned long> thread_ = 0;  // that runs a turn
    char* read_buffer_ = nullptr;
    py::Array<char> spare_;
};

}  // namespace pyev::aio
