// Watcher: what all watchers share, compiled once; WatcherOf<E> adds the libev struct.
//
// A watcher lives as long as something in Python refers to it (pyev 0.9's rule): start() takes no
// reference, and one that is dropped while active is stopped. It holds its loop and is linked into
// the loop's list. A new kind of watcher writes its leading arguments (`kLead`, `configure`), how
// it starts and stops, and its own attributes. On a loop that somebody drives, a callback is called
// in the context of start(), and a watcher without one is awaited.
#pragma once

#include <Python.h>
#include <ev.h>

#include <cstdint>

#include "ev/loop.hpp"
#include "py/call.hpp"
#include "py/method.hpp"

namespace pyev::ev {

class Watcher {
 public:
    static const py::TypeInfo kType;

    // What becomes of an awaited watcher's events while nobody waits for one.
    enum class Unheard : unsigned char { kMerged, kCounted, kNotWatched };

    // What tells one kind from another; made by `kind_of` from the kind's class.
    struct Kind {
        const char* name;
        int event;                // its bit in revents
        const char* const* lead;  // names of the leading arguments
        int lead_size;
        int lead_required;  // of one that is awaited
        bool needs_callback;
        int size;        // of an object, in bytes
        bool awaitable;  // without a callback, on a loop that somebody drives
        Unheard unheard;
        bool holds;               // an active one keeps the loop running
        bool (*start)(Watcher*);  // of an inactive one; false: an exception is set
        void (*stop)(Watcher*);   // of an active one
        bool (*configure)(Watcher*, PyObject* const* lead);
        py::Ref (*describe)(Watcher*);
        bool (*settle)(Watcher*);     // Scheduler's; true when there was something to do
        py::Ref (*second)(Watcher*);  // another loop that it has to do with
    };

    // See py/lock.hpp.
    [[nodiscard]] bool lock(py::Lock& lock, bool waits);
    py::Mutex& fields() { return fields_; }

    [[nodiscard]] bool alive() { return (loop_ && owner()->is_alive()) || refuse(); }
    [[nodiscard]] bool enter() { return (loop_ && owner()->is_open()) || refuse(); }

    // The libev struct, which every subclass has right behind this base.
    ev_watcher* base() {
        return reinterpret_cast<ev_watcher*>(reinterpret_cast<char*>(this) + sizeof(Watcher));
    }
    bool is_active() { return ev_is_active(base()); }
    bool is_pending() { return ev_is_pending(base()); }
    PyObject* object() { return py::object_of(this); }
    const Kind& kind() { return *static_cast<const Kind*>(base()->data); }
    // Null before __init__, and once the garbage collector has cleared it.
    Loop* owner() const { return loop_ ? py::value_of<Loop>(loop_.get()) : nullptr; }
    // Where it is known to be there.
    Loop* own_loop() const { return py::value_of<Loop>(loop_.get()); }
    Watcher* next() const { return next_; }

    // Whether an audience stands where the callback would.
    bool awaited() const {
        return loop_ && owner()->driver() && callback_ &&
               Py_IS_TYPE(callback_.get(), owner()->driver()->audience);
    }
    PyObject* audience() const { return callback_.get(); }
    void drop_audience() { py::publish(fields_, callback_, py::Ref()); }
    // Starts an inactive one, whoever hears it.
    [[nodiscard]] bool activate();
    // Stops it and clears what is pending; nothing of it is left in libev.
    void stop_now();
    void stop_open();  // where the loop is not closed
    // Of one whose descriptor libev gave up by itself: what begin() did is undone before anything
    // else is done with it. One that has just been due stays pending.
    void end_given_up();
    // Forgets the loop.
    void detach();
    // libev may have stopped it by itself (a timer that has fired): keep the books.
    void settle_hold() {
        if (hold_ != Hold::kNone && !is_active()) release_hold();
    }
    // The same of one that is left pending: libev counts it no more, so it is not released either.
    void settle_pending() {
        if (hold_ != Hold::kReleased || is_active()) return;
        release_hold();
        hold_ = Hold::kHolds;
        own_loop()->count(+1);
    }
    // Starts to fetch what an event touches; and, once that is there, what it refers to: the data,
    // and what a subclass has in slots.
    void prefetch() {
        auto* memory = reinterpret_cast<const char*>(object());
        for (int offset : {0, 64, kind().size}) __builtin_prefetch(memory + offset);
    }
    void prefetch_more();
    bool holds_no_more() { return hold_ == Hold::kHolds && !is_active(); }

    template <class F>
    void each_ref(F f) {
        f(loop_);
        f(callback_);
        f(data_);
    }
    bool init(py::Args args, Loop* loop = nullptr);
    void stop_for_clear() { detach(); }
    bool unfinished() { return owner() && (is_active() || is_pending()); }
    void finalize();
    py::Ref repr();

    py::Ref start();
    py::Ref stop();
    py::Ref invoke(PyObject* revents);
    py::Ref feed(PyObject* revents);
    py::Ref clear();
    py::Ref set(py::Args args);
    py::Ref enter_with();
    py::Ref exit_with(py::Args args);
    py::Ref await();
    py::Ref iterate();

    py::Ref get_loop();
    py::Ref get_active();
    py::Ref get_pending();
    py::Ref get_callback();
    bool set_callback(PyObject* callback);
    py::Ref get_data() { return data_ ? data_ : py::Ref::none(); }
    bool set_data(PyObject* data);
    py::Ref get_priority();
    bool set_priority(PyObject* priority);
    py::Ref get_keepalive();
    bool set_keepalive(PyObject* keepalive);

 protected:
    Watcher() = default;
    ~Watcher() { detach(); }

    // Calls the callback. After this the watcher may be gone.
    void deliver(int revents);
    // Starts watching a descriptor, or raises OSError that names this watcher.
    [[nodiscard]] bool begin_watch(Watch* watch);
    // libev counts from the turn's time. Between runs nobody takes that, so what is started long
    // after would be due early.
    void allow_for_time() {
        if (!owner()->running()) ev_now_update(owner()->ev());
    }
    // EV_ERROR, or a dead descriptor: stopped, and start() raises, or who awaits it.
    void fail(int number);
    // The exception that is set has ended it.
    void fail_with_error(Loop* loop);
    // Before a start that Python asks for; Python code may run, and start it.
    [[nodiscard]] bool may_start() { return !owner()->driver() || may_start_driven(); }
    [[nodiscard]] bool may_start_driven();

    enum class Hold : unsigned char { kNone, kHolds, kReleased };
    void take_hold();  // of one that holds nothing
    void release_hold();

    // The reason why alive() or enter() is false, as an exception.
    [[nodiscard]] bool refuse();

    // What an event touches lies together, and next to the libev struct: with thousands of
    // watchers each cache line counts.
    Watcher* previous_ = nullptr;
    Watcher* next_ = nullptr;
    py::Ref data_;
    py::Ref loop_;
    py::Ref callback_;
    int priority_ = 0;  // as given; libev's own field holds it clamped
    bool keepalive_ = true;
    Hold hold_ = Hold::kNone;
    uint16_t delivered_ = 0;                  // Io's: events so far, modulo
    [[no_unique_address]] py::Mutex fields_;  // of references, here and in subclasses

    // Error when active: what may not be changed then. Ask after the last call into Python.
    [[nodiscard]] bool inactive();
    // The state of one that may not have a loop yet. Null: an exception is set.
    State* state();

    [[nodiscard]] bool change_callback(PyObject* callback);
    py::Ref stopped_driven();

    friend class Loop;
};

// Adds the libev struct. T provides kName, kEvent and, where it differs from what is here, kLead,
// begin, end, configure, describe, event, each_ref.
template <class T, class E, auto Start, auto Stop>
class WatcherOf : public Watcher {
 public:
    static constexpr const char* const* kLead = nullptr;
    static constexpr int kLeadSize = 0;
    static constexpr int kLeadOptional = 0;
    static constexpr bool kNeedsCallback = true;
    static constexpr bool kAwaitable = true;
    static constexpr Unheard kUnheard = Unheard::kMerged;
    static constexpr bool kHolds = true;
    static constexpr bool kEachTurn = false;

    bool begin() {
        if (T::kEachTurn) owner()->count_each_turn(+1);
        Start(owner()->ev(), &ev_);
        return true;
    }
    void end() {
        if (T::kEachTurn) owner()->count_each_turn(-1);
        Stop(owner()->ev(), &ev_);
    }
    bool configure(PyObject* const*) { return inactive(); }
    py::Ref describe() { return py::Ref::steal(PyUnicode_FromString("")); }
    bool settle() { return false; }
    py::Ref second() { return {}; }
    void event(int revents) { deliver(revents); }

 protected:
    WatcherOf() {
        static_assert(sizeof(Watcher) % alignof(E) == 0);
        ev_init(&ev_, on_event);
        ev_.data = const_cast<Kind*>(&kKind);
    }

    static T* from(E* ev) {
        auto* watcher = reinterpret_cast<Watcher*>(reinterpret_cast<char*>(ev) - sizeof(Watcher));
        return static_cast<T*>(watcher);
    }
    static void on_event(struct ev_loop*, E* ev, int revents) {
        Prefetch& prefetch = from(ev)->own_loop()->prefetch();
        if (prefetch.takes()) [[unlikely]]
            return prefetch.take(ev, revents, from(ev));
        // The last reference may just have gone, in another thread: it waits for us to be done.
        py::Alive alive(from(ev)->object());
        if (alive) from(ev)->event(revents);
    }

    static constexpr Kind kKind = {
        T::kName,
        T::kEvent,
        T::kLead,
        T::kLeadSize,
        T::kLeadSize - T::kLeadOptional,
        T::kNeedsCallback,
        sizeof(py::Head) + sizeof(T),
        T::kAwaitable,
        T::kUnheard,
        T::kHolds,
        [](Watcher* watcher) { return static_cast<T*>(watcher)->begin(); },
        [](Watcher* watcher) { static_cast<T*>(watcher)->end(); },
        [](Watcher* watcher, PyObject* const* lead) {
            return static_cast<T*>(watcher)->configure(lead);
        },
        [](Watcher* watcher) { return static_cast<T*>(watcher)->describe(); },
        [](Watcher* watcher) { return static_cast<T*>(watcher)->settle(); },
        [](Watcher* watcher) { return static_cast<T*>(watcher)->second(); },
    };

    E ev_;
};

}  // namespace pyev::ev
