// Watchers that are awaited: `await watcher` and `async for revents in watcher`.
//
// A watcher without a callback has an Audience in its place, which is called with the events. Who
// listens is a Listener: an iterator, or one `await`. Each event goes to all of them; one that
// nobody hears is kept for the next to come, as the watcher's kind says (Unheard). A coroutine
// waits for a future of its loop, which keeps that future, so that a task nobody else refers to
// goes on. Used on the thread that runs the loop.
#pragma once

#include <Python.h>

#include <cstdint>

#include "ev/watcher.hpp"
#include "py/object.hpp"

namespace pyev::aio {

class Audience;
class LoopBase;

// Events that have come and were not yet told.
struct Backlog {
    uint64_t count = 0;
    int revents = 0;

    void add(Backlog other, bool counted) {
        if (!other.count) return;
        count = counted ? count + other.count : 1;
        revents |= other.revents;
    }
    // What they are merged to.
    int take_all() { return std::exchange(*this, {}).revents; }
    bool take(int& one) {
        if (!count) return false;
        one = revents;
        if (--count == 0) revents = 0;
        return true;
    }
};

class Listener {
 public:
    Listener() = default;
    Listener(const Listener&) = delete;
    ~Listener() { leave(); }
    void leave();
    bool joined() const { return audience_; }

    Backlog backlog;
    py::Ref error;          // with which the watcher ended
    bool over = false;      // the watcher was stopped, or has ended
    bool iterates = false;  // hears more than one event
    py::Ref future;         // of the coroutine that waits now; LoopBase visits it

 private:
    friend class Audience;
    Audience* audience_ = nullptr;
    Listener* previous_ = nullptr;
    Listener* next_ = nullptr;
};

class Audience {
 public:
    static const py::TypeInfo kType;

    Audience() : call_(call) {}
    ~Audience() { dismiss(); }
    // Null unless the watcher is awaited.
    static Audience* of(ev::Watcher* watcher) {
        return watcher->awaited() ? py::value_of<Audience>(watcher->audience()) : nullptr;
    }
    static PyObject* call(PyObject* self, PyObject* const* values, size_t count, PyObject* names);

    // The listener is given what nobody has heard.
    void join(Listener* listener);
    void leave(Listener* listener);
    bool empty() const { return !first_; }
    // Puts back what somebody was told who was cancelled before it could run.
    void keep(Backlog backlog, bool counted) { unheard_.add(backlog, counted); }
    // For one that does not listen on.
    bool take(int& revents) { return unheard_.take(revents); }
    py::Ref take_error() { return std::move(error_); }
    int forget() {
        int revents = unheard_.take_all();
        py::Ref error = std::move(error_);
        return revents;
    }
    // The watcher was stopped (no error), or has failed.
    [[nodiscard]] bool end(py::Ref error, bool keep_error);
    // Nobody listens any more; runs no Python code but finalizers.
    void dismiss();

    template <class F>
    void each_ref(F f) {
        f(error_);
    }
    template <class F>
    int visit_futures(F f) {
        for (Listener* listener = first_; listener; listener = listener->next_)
            if (listener->future)
                if (int result = f(listener->future.get())) return result;
        return 0;
    }
    void stop_for_clear() {}
    bool unfinished() const { return false; }
    void finalize() {}
    py::Ref repr();

 private:
    [[nodiscard]] bool hear(ev::Watcher* watcher, int revents);
    [[nodiscard]] bool wake(bool all_leave);

    vectorcallfunc call_;
    Listener* first_ = nullptr;
    Listener* last_ = nullptr;
    Backlog unheard_;
    py::Ref error_;  // nobody has heard it
};

// What `async for` goes through.
class Events {
 public:
    static const py::TypeInfo kType;

    // See py/lock.hpp.
    [[nodiscard]] bool lock(py::Lock& lock, bool waits) {
        return !watcher_ || watcher()->lock(lock, waits);
    }

    Listener& listener() { return listener_; }
    void begin(ev::Watcher* watcher) {
        watcher_ = py::Ref::borrow(watcher->object());
        listener_.iterates = true;
    }
    py::Ref next();

    template <class F>
    void each_ref(F f) {
        f(watcher_);
        f(listener_.error);
    }
    void stop_for_clear();
    bool unfinished() const { return false; }
    void finalize() {}
    py::Ref repr();

 private:
    ev::Watcher* watcher() const { return py::value_of<ev::Watcher>(watcher_.get()); }

    py::Ref watcher_;
    Listener listener_;
};

// One wait for one event: what a coroutine is suspended in.
class Wait {
 public:
    static const py::TypeInfo kType;

    // See py/lock.hpp.
    [[nodiscard]] bool lock(py::Lock& lock, bool waits) {
        return !watcher_ || watcher()->lock(lock, waits);
    }

    static py::Ref make(ev::Watcher* watcher, PyObject* events);
    PySendResult send(PyObject** result);
    py::Ref send_method(PyObject* value);
    py::Ref throw_method(py::Args args);
    py::Ref close_method();

    template <class F>
    void each_ref(F f) {
        f(watcher_);
        f(events_);
        f(own_.error);
    }
    void stop_for_clear() { leave(); }
    bool unfinished() const { return false; }
    void finalize() {}
    py::Ref repr();

 private:
    enum class Stage : unsigned char { kNew, kWaiting, kDone };
    enum class Told { kNothing, kEvent, kError };  // kError: an exception is set

    ev::Watcher* watcher() const { return py::value_of<ev::Watcher>(watcher_.get()); }
    Listener& listener() {
        return events_ ? py::value_of<Events>(events_.get())->listener() : own_;
    }
    Told told(int& revents);
    // The future, or empty: `told` says why.
    py::Ref wait(Told& told, int& revents);
    void leave();

    py::Ref watcher_;
    py::Ref events_;  // or empty: a bare `await`
    Listener own_;
    Stage stage_ = Stage::kNew;
};

// What awaiting needs of CPython, found when the first event loop is made.
class Waiters {
 public:
    [[nodiscard]] bool init(PyObject* module);
    void clear() {
        each_ref([](py::Ref& ref) { ref = py::Ref(); });
    }
    template <class F>
    void each_ref(F f) {
        for (py::Ref* ref : {&audience, &events, &wait, &running_loop, &create_future, &set_result,
                             &done, &blocking})
            f(*ref);
    }
    bool ready() const { return static_cast<bool>(blocking); }

    py::Ref audience, events, wait;                     // types
    py::Ref running_loop;                               // asyncio's function
    py::Ref create_future, set_result, done, blocking;  // names
};

// What a Driver calls.
py::Ref make_audience(LoopBase* loop);
py::Ref await(LoopBase* loop, ev::Watcher* watcher);
py::Ref iterate(LoopBase* loop, ev::Watcher* watcher);
void end(ev::Watcher* watcher);

// The loop is about to be closed: nobody waits in vain.
void end_all(ev::Loop* loop);
// It is gone.
void dismiss_all(ev::Loop* loop);
// The futures that are waited for.
template <class F>
int visit_waiting(ev::Loop* loop, F f) {
    for (ev::Watcher* watcher = loop->watchers(); watcher; watcher = watcher->next())
        if (Audience* audience = Audience::of(watcher))
            if (int result = audience->visit_futures(f)) return result;
    return 0;
}

}  // namespace pyev::aio
