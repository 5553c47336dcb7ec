// Loop: a libev loop as a Python object.
//
// A loop is kept alive by its watchers, and knows them all (a list through them), so that close()
// can stop and detach them; but it owns none of them, except the `once` ones that are under way.
// One thread at a time may use it; while it runs that is the one that runs it, and `enter` turns
// the others away. Callbacks of libev end in `report` or `fail`.
//
// Without a GIL, whoever touches the loop or what hangs on it has its monitor: the thread that runs
// it too, but while that polls or waits in a callback. What any thread may do at any time does
// without. Where that needs libev's loop, `gate` keeps it from being closed meanwhile.
#pragma once

#include <Python.h>
#include <ev.h>

#include "ev/descriptors.hpp"
#include "ev/interrupt.hpp"
#include "ev/pause.hpp"
#include "ev/postponed.hpp"
#include "ev/prefetch.hpp"
#include "ev/rush.hpp"
#include "ev/state.hpp"
#include "ev/wakeup.hpp"
#include "py/lock.hpp"
#include "py/method.hpp"

namespace pyev::ev {

// What drives a loop that does not run by itself: asyncio's. Filled in by the layer above.
//
// A watcher without a callback is awaited there. An audience, an object of the layer above, stands
// where the callback would and is called with the events.
struct Driver {
    // An Exception is set: a callback raised it, or a watcher cannot go on.
    void (*report)(Driver*, PyObject* source);
    void (*stop)(Driver*);
    // Python's own handler of a signal was called. False: an error is set.
    bool (*signalled)(Driver*, int signum);
    // Whether it has found something to do since it let the loop wait: in a Prepare watcher, or
    // by a dead descriptor.
    bool (*busy)(Driver*);
    py::Ref (*make_audience)(Driver*);
    py::Ref (*await)(Driver*, Watcher*);    // `await watcher`
    py::Ref (*iterate)(Driver*, Watcher*);  // `async for revents in watcher`
    // An awaited watcher was stopped, or cannot go on for the exception that is set.
    void (*end_waits)(Driver*, Watcher*);
    // Drops what nobody has heard of an awaited watcher's events: their bits.
    int (*forget)(Driver*, Watcher*);
    // Whether this thread is in a turn of it, and may have written what is not sent.
    bool (*writes)(Driver*);
    // Sends that, and calls none of the program's code. False: an exception is set.
    bool (*send)(Driver*);
    PyTypeObject* audience = nullptr;
    ev_timer* timer = nullptr;  // its own: no io_interval outlasts it
};

class Loop {
 public:
    static const py::TypeInfo kType;

    ~Loop() {
        destroy();
        if (state_) state_->release();
    }

    bool init(py::Args args);
    static py::Ref make_default(State& state, py::Args args);

    // Whether the loop can be used at all, and by this thread. Else an exception is set.
    [[nodiscard]] bool alive() { return is_alive() || refuse(); }
    [[nodiscard]] bool enter() { return is_open() || refuse(); }
    // What only its owner may do with a loop that asyncio drives.
    [[nodiscard]] bool own();
    bool is_alive() const { return ev_ && !orphaned_; }
    bool is_open() const { return is_alive() && (!owner_ || owner_ == py::this_thread()); }
    // Another thread runs it.
    bool elsewhere() const {
        unsigned long owner = owner_;
        return owner && owner != py::this_thread();
    }

    // See py/lock.hpp.
    [[nodiscard]] bool lock(py::Lock& lock, bool waits, py::Ref keep = py::Ref(),
                            Loop* other = nullptr) {
        if (!waits && !orphaned_ && elsewhere()) return refuse();
        if (other && other != this)
            lock.begin(monitor_, other->monitor_, std::move(keep));
        else
            lock.begin(monitor_, std::move(keep));
        return true;
    }
    py::Mutex& fields() { return gate_; }
    py::Mutex& gate() { return gate_; }

    struct ev_loop* ev() const { return ev_; }
    State& state() const { return *state_; }
    Descriptors& descriptors() { return descriptors_; }
    Postponed& postponed() { return postponed_; }
    Prefetch& prefetch() { return prefetch_; }
    bool rushes() const { return rush_.on(); }
    PyObject* object() { return py::object_of(this); }
    bool running() const { return runs_ > 0; }
    bool closed() const { return !ev_; }
    bool is_default() const { return state_ && state_->default_loop == this; }
    // The process was forked since the last poll, or reset() was called.
    bool forked() const;
    // It was the parent process's, and has not polled in this one.
    bool inherited() const { return pid_ != getpid(); }
    // reset() was called, or the process forked, and the next turn has that to do.
    bool resets() const { return forked_; }
    // How often it has made its backend anew.
    unsigned generation() const { return generation_; }
    // libev makes its kernel objects anew before the next poll.
    bool rebuilding() const { return rebuild_; }

    // The active Embeds that this loop is the other of, linked; they end with it.
    Embed*& embedders() { return embedders_; }
    // One of the loops embedded in this one has made its backend anew.
    void note_stale_embeds() { stale_embeds_ = true; }
    void link(Watcher* watcher);
    void unlink(Watcher* watcher);
    Watcher* watchers() const { return watchers_; }
    // How many active watchers hold the loop running.
    void count(int change) { holding_ += change; }
    // How many active watchers hear of each turn.
    void count_each_turn(int change) { each_turn_ += change; }
    // Closes a descriptor of ours, but not while another thread polls it: poll(2) would tell.
    void close_fd(int fd);
    // Keeps a Once object until it is done.
    [[nodiscard]] bool keep(PyObject* once);
    void unkeep(PyObject* once);

    // An exception was raised in a callback: what pyev 0.9's rules and `debug` say.
    void report(PyObject* source);
    // The exception that is set leaves start() (or invoke()), whatever `debug` is.
    void fail();
    // Schedulers whose next time is unknown are asked for it.
    void settle() {
        if (unsettled_) settle_all();
    }
    void unsettle();

    // ev_run. False: an exception is set.
    [[nodiscard]] bool run(int flags, int* remaining = nullptr);
    // Runs `body`, which invokes callbacks, and raises what they raised.
    template <class F>
    [[nodiscard]] bool guarded(F body) {
        Frame frame(this, false);
        body();
        return frame.finish();
    }

    Driver* driver() const { return driver_; }
    void set_driver(Driver* driver) { driver_ = driver; }
    // Without a GIL. Has `put` leave something for the driver, behind the gate: false, and nothing
    // happens, unless the loop is in a run() or about to be. A poll ends for it.
    template <class F>
    bool post(F put) {
        {
            py::Hold hold(gate_);
            if (!put()) return false;
            posted_ = true;
            if (!released_ || woken_) return true;
            woken_ = true;
        }
        if (wakeup_.usable() && wakeup_.send()) return true;
        wakeup_.note_other();
        py::Hold hold(gate_);
        if (ev_) wake();
        return true;
    }
    bool posted() const { return !py::kHasGil && posted_; }
    // Takes what was left there, behind the gate.
    template <class F>
    void take_posted(F take) {
        if (!posted_) return;
        py::Hold hold(gate_);
        if (take()) posted_ = false;
    }
    // The Async that was sent to last, and may make the next poll return at once; null when that
    // stops.
    void note_sent(ev_async* async) { sent_ = async; }
    void forget_sent(ev_async* async) {
        if (sent_ == async) sent_ = nullptr;
    }
    // Ends a poll, from any thread.
    void wake() { ev_async_send(ev_, &wake_); }
    [[nodiscard]] bool can_wake() { return woken_ || wakeup_.intact() || can_end_poll(&wake_); }
    // libev does not say when it could not write, and the loop would sleep on. So this is asked
    // before sending to an Async of the loop's; false: OSError. It looks only where libev will
    // write.
    [[nodiscard]] bool can_end_poll(ev_async* async) {
        return !released_ || ev_async_pending(async) || descriptors_.wakeup_alive() ||
               py::raise_errno(EBADF);
    }
    // Something was queued for the driver by another thread, with the GIL. A loop that does not
    // poll asks the driver before it does. May let the GIL go.
    void wake_from_outside() {
        if (!released_ || py::exchange(woken_, true)) return;
        if (wakeup_.usable() && wakeup_.send()) return;
        wakeup_.note_other();
        if (ev_) wake();
    }
    // While one lives, the loop is this thread's.
    class Claim {
     public:
        explicit Claim(Loop* loop)
            : loop_(loop), outer_(py::exchange(loop->owner_, py::this_thread())) {}
        Claim(const Claim&) = delete;
        ~Claim() { loop_->owner_ = outer_; }

     private:
        Loop* loop_;
        unsigned long outer_;
    };
    // While one lives, Python's signals end the polls, and a rush may go on: cheaper than for each
    // run() anew.
    class Session {
     public:
        explicit Session(Loop* loop) : loop_(loop) { ++loop_->sessions_; }
        Session(const Session&) = delete;
        ~Session() {
            if (--loop_->sessions_ != 0) return;
            loop_->rush_.end();
            loop_->interrupt_.leave();
        }

     private:
        Loop* loop_;
    };

    // Whether the driver hears of each signal that Python has a handler of, whenever it comes. In
    // the main thread.
    [[nodiscard]] bool keep_signals(bool kept);

    void after_fork();
    Loop* next() const { return next_; }
    // See Interrupt::forget.
    static void forget_interrupt(State& state, int fd, int before);
    // See Interrupt::lay_over.
    static bool lay_over(State& state, int fd, int over, int& before);

    template <class F>
    void each_ref(F f) {
        f(callback_);
        f(data_);
        f(onces_);
    }
    void stop_for_clear() {}
    bool unfinished() const { return false; }
    void finalize() {}
    py::Ref repr();

    py::Ref start(py::Args args);
    py::Ref stop(py::Args args);
    py::Ref invoke();
    py::Ref reset();
    py::Ref close();
    py::Ref enter_with();
    py::Ref exit_with(py::Args args);
    py::Ref now();
    py::Ref update();
    py::Ref suspend();
    py::Ref resume();
    py::Ref ref();
    py::Ref unref();
    py::Ref verify();
    py::Ref feed_fd_event(py::Args args);
    py::Ref feed_signal_event(PyObject* signum);
    py::Ref once(py::Args args);
    template <class T>
    py::Ref make(py::Args args);

    py::Ref get_callback() { return callback_ ? callback_ : py::Ref::none(); }
    bool set_callback(PyObject* callback);
    py::Ref get_data() { return data_ ? data_ : py::Ref::none(); }
    bool set_data(PyObject* data);
    py::Ref get_debug();
    bool set_debug(PyObject* debug);
    py::Ref get_io_interval();
    bool set_io_interval(PyObject* interval);
    py::Ref get_timeout_interval();
    bool set_timeout_interval(PyObject* interval);
    py::Ref get_backend();
    py::Ref get_closed();
    py::Ref get_default();
    py::Ref get_depth();
    py::Ref get_iteration();
    py::Ref get_pending();

 private:
    // One activation of start() or invoke(): what it raises when it is over.
    class Frame {
     public:
        Frame(Loop* loop, bool runs, int flags = 0);
        ~Frame();
        [[nodiscard]] bool finish();

        py::Ref error;
        const bool running;  // ev_run, which an exception has to break
        const bool wait;     // polls may block
        bool last = false;   // it has polled, and will not again
        const bool once;

     private:
        Loop* loop_;
        py::Ref keep_;
        Frame* outer_;
        Claim claim_;
    };

    // The reason why alive() or enter() is false, as an exception.
    [[nodiscard]] bool refuse();
    [[nodiscard]] bool create(unsigned flags);
    void destroy();
    void run_cleanups();

    static void on_invoke(struct ev_loop* ev);
    static void on_release(struct ev_loop* ev) noexcept;
    static void on_acquire(struct ev_loop* ev) noexcept;
    static void on_rebuild(struct ev_loop* ev, ev_fork* watcher, int);
    static void on_wake(struct ev_loop*, ev_async*, int) {}
    static void on_system_error(const char* message) noexcept;
    void invoke_pending();
    void break_off();
    bool may_rush() const;
    bool may_pause() const;
    long held() const;
    void before_poll();
    void settle_all();
    void refresh_embeds();
    [[nodiscard]] bool can_rebuild();

    py::Atomic<struct ev_loop*> ev_ = nullptr;
    State* state_ = nullptr;
    Frame* frame_ = nullptr;
    py::Atomic<PyThreadState*> released_ = nullptr;  // while polling without the GIL
    py::Atomic<unsigned long> owner_ = 0;            // the thread that has a Claim
    int system_error_ = 0;                           // errno of a failed poll
    bool debug_ = false;
    py::Atomic<bool> woken_ = false;     // while polling without the GIL: this poll, from outside
    py::Atomic<bool> orphaned_ = false;  // another thread ran it when the process was forked
    bool rebuild_ = false;  // libev will make its kernel objects anew before the next poll
    bool forked_ = false;
    bool unsettled_ = false;
    bool stale_embeds_ = false;
    unsigned generation_ = 0;
    bool closing_ = false;
    pid_t pid_ = 0;
    long holding_ = 0;     // active watchers that keep it running
    long references_ = 0;  // ref() less unref()
    int break_ = 0;        // what libev was told to break, as it keeps that itself
    int each_turn_ = 0;    // active watchers that hear of each turn
    double timeout_interval_ = 0;
    int sessions_ = 0;
    py::Atomic<int> runs_ = 0;  // ev_depth, without a call
    py::Atomic<ev_async*> sent_ = nullptr;
    Driver* driver_ = nullptr;
    Watcher* watchers_ = nullptr;
    size_t linked_ = 0;  // how many these are
    Embed* embedders_ = nullptr;
    Loop* previous_ = nullptr;
    Loop* next_ = nullptr;
    py::Ref callback_, data_, onces_;
    Descriptors descriptors_;
    py::Array<int> closing_fds_;
    Interrupt interrupt_;
    Pause pause_;
    Rush rush_;
    Postponed postponed_;
    Prefetch prefetch_;
    Wakeup wakeup_;
    ev_async wake_ = {};
    ev_fork rebuilt_ = {};
    [[no_unique_address]] py::Monitor monitor_;
    [[no_unique_address]] py::Mutex gate_;
    py::Atomic<bool> posted_ = false;
};

}  // namespace pyev::ev
