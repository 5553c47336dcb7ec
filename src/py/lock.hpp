// Other threads at the same time: what there is of locks on a Python without a GIL. On any other
// everything here is empty, and costs nothing.
//
//   Lock    of a Monitor or an object: what the GIL is elsewhere, for one thing and all that hangs
//           on it. Let go wherever this thread waits or lets others run, and taken again after it.
//   Hold    of a Mutex: for a few instructions in which no Python code runs and nothing waits. No
//           second one but in the order of the layers, from above.
//   Atomic  a value that any thread reads: one that is written whole, or a counter.
#pragma once

#include <Python.h>

#include <atomic>
#include <type_traits>
#include <utility>

#ifdef __unix__
#include <sched.h>
#endif

#include "py/compat.hpp"
#include "py/ref.hpp"

namespace pyev::py {

#ifdef PYEV_FREE_THREADED

template <class T>
class Atomic {
 public:
    Atomic(T value) : value_(value) {}
    Atomic(const Atomic&) = delete;
    Atomic& operator=(T value) {
        value_.store(value, std::memory_order_release);
        return *this;
    }
    operator T() const { return value_.load(std::memory_order_acquire); }
    T operator->() const { return *this; }
    T operator++() { return ++value_; }
    T operator--() { return --value_; }

 private:
    std::atomic<T> value_;
};

class Mutex {
 public:
    Mutex() = default;
    Mutex(const Mutex&) = delete;

 private:
    friend class Hold;
    std::atomic<bool> held_ = false;
};

class Hold {
 public:
    explicit Hold(Mutex& mutex) : mutex_(mutex) {
        // Whoever has it runs, or is about to: the system has taken the processor away at worst.
        for (int tries = 0; mutex_.held_.exchange(true, std::memory_order_acquire);)
            if (++tries > kTries) sched_yield();
    }
    Hold(const Hold&) = delete;
    ~Hold() { mutex_.held_.store(false, std::memory_order_release); }

 private:
    static constexpr int kTries = 64;

    Mutex& mutex_;
};

class Monitor {
    friend class Lock;
    PyMutex mutex_ = {};
};

class Lock {
 public:
    Lock() = default;
    explicit Lock(PyObject* object) { begin(object); }
    explicit Lock(Monitor& monitor) { begin(monitor, Ref()); }
    Lock(const Lock&) = delete;
    ~Lock() { end(); }

    void begin(PyObject* object) {
        held_ = true;
        PyCriticalSection_Begin(&section_, object);
    }
    // `keep` is what the monitor is in, if nobody else sees to it.
    void begin(Monitor& monitor, Ref keep) {
        held_ = true;
        keep_ = std::move(keep);
        PyCriticalSection_BeginMutex(&section_, &monitor.mutex_);
    }
    // Both at once.
    void begin(Monitor& monitor, Monitor& other, Ref keep) {
        held_ = two_ = true;
        keep_ = std::move(keep);
        PyCriticalSection2_BeginMutex(&sections_, &monitor.mutex_, &other.mutex_);
    }
    void end() {
        if (!std::exchange(held_, false)) return;
        if (std::exchange(two_, false))
            PyCriticalSection2_End(&sections_);
        else
            PyCriticalSection_End(&section_);
        Ref keep = std::move(keep_);
    }

 private:
    union {
        PyCriticalSection section_;
        PyCriticalSection2 sections_;
    };
    Ref keep_;
    bool held_ = false, two_ = false;
};

// Whether nobody else has or can get a reference to an object of which we have one.
inline bool unshared(PyObject* object) { return PyUnstable_Object_IsUniquelyReferenced(object); }

// A reference to an object that may be about to be freed, in another thread: empty then. Its memory
// has to be there. `allow_try_ref` is to be called when the object is made.
inline Ref try_ref(PyObject* object) {
    return Ref::steal(PyUnstable_TryIncRef(object) ? object : nullptr);
}
inline void allow_try_ref(PyObject* object) { PyUnstable_EnableTryIncRef(object); }

// try_ref() as a guard, where an object that other threads can free is to live on for a while.
class Alive {
 public:
    explicit Alive(PyObject* object) : self_(try_ref(object)) {}
    explicit operator bool() const { return static_cast<bool>(self_); }

 private:
    Ref self_;
};

// What was found in a container that other threads may change.
class Found {
 public:
    Found() = default;
    Found(std::nullptr_t) {}
    explicit Found(Ref found) : found_(std::move(found)) {}
    operator PyObject*() const { return found_.get(); }

 private:
    Ref found_;
};

#else

template <class T>
using Atomic = T;

class Mutex {};

class Hold {
 public:
    explicit Hold(Mutex&) {}
    Hold(const Hold&) = delete;
    ~Hold() {}
};

class Monitor {};

class Lock {
 public:
    Lock() {}
    explicit Lock(PyObject*) {}
    explicit Lock(Monitor&) {}
    Lock(const Lock&) = delete;
    ~Lock() {}
    void begin(PyObject*) {}
    void begin(Monitor&, Ref) {}
    void begin(Monitor&, Monitor&, Ref) {}
    void end() {}
};

inline bool unshared(PyObject* object) { return Py_REFCNT(object) == 1; }

inline Ref try_ref(PyObject* object) { return Py_REFCNT(object) > 0 ? Ref::borrow(object) : Ref(); }
inline void allow_try_ref(PyObject*) {}

class Alive {
 public:
    explicit Alive(PyObject* object) : alive_(Py_REFCNT(object) > 0) {}
    explicit operator bool() const { return alive_; }

 private:
    bool alive_;
};

using Found = PyObject*;

#endif

// dict[name] for as long as the result lives, or null; an exception on the way is dropped.
inline Found find(PyObject* dict, PyObject* name) {
#ifdef PYEV_FREE_THREADED
    PyObject* found;
    if (PyDict_GetItemRef(dict, name, &found) < 0) PyErr_Clear();
    return Found(Ref::steal(found));
#else
    PyObject* found = PyDict_GetItemWithError(dict, name);
    if (!found && PyErr_Occurred()) PyErr_Clear();
    return found;
#endif
}

// std::exchange, for the one thread that writes.
template <class T>
T exchange(Atomic<T>& slot, std::type_identity_t<T> value) {
    T before = slot;
    slot = value;
    return before;
}

// A reference that another thread may be about to copy by `read` is changed by `publish`.
inline Ref read([[maybe_unused]] Mutex& mutex, const Ref& slot) {
    Hold hold(mutex);
    return slot;
}
inline void publish([[maybe_unused]] Mutex& mutex, Ref& slot, Ref value) {
    Hold hold(mutex);
    slot.swap(value);
    // The old one dies after this, with the parameter.
}

// Locks what a value belongs to, while a method of it runs. T says what that is, if anything:
//
//   bool lock(Lock&, bool waits)   false: another thread runs its loop, and that is set as an
//                                  exception; never when it is to wait for that one's poll
//   Mutex& fields()                of the references that are read in any thread
//
// Where there is a GIL, both are never called.
template <class T>
class Locked {
 public:
    explicit Locked([[maybe_unused]] T* value, [[maybe_unused]] bool waits = false) {
#ifdef PYEV_FREE_THREADED
        if constexpr (requires(Lock& lock) { value->lock(lock, waits); })
            refused_ = !value->lock(lock_, waits);
#endif
    }
    Locked(const Locked&) = delete;
    ~Locked() {}

#ifdef PYEV_FREE_THREADED
    explicit operator bool() const { return !refused_; }

 private:
    Lock lock_;
    bool refused_ = false;
#else
    constexpr explicit operator bool() const { return true; }
#endif
};

// The same, around what has to be read all at once, in any thread: it waits for the lock.
#ifdef PYEV_FREE_THREADED
template <class T>
class Waiting : Locked<T> {
 public:
    explicit Waiting(T* value) : Locked<T>(value, true) {}
    constexpr explicit operator bool() const { return true; }
};

// Around what any thread may do at any time: reads these references, or waits for the lock. Nothing
// where T has `static constexpr bool kReadable`, and sees to that itself.
template <class T>
class Reading : Waiting<T> {
 public:
    using Waiting<T>::Waiting;
    constexpr explicit operator bool() const { return true; }
};

template <class T>
    requires requires(T* value) { value->fields(); }
class Reading<T> : Hold {
 public:
    explicit Reading(T* value) : Hold(value->fields()) {}
    constexpr explicit operator bool() const { return true; }
};

template <class T>
    requires T::kReadable
class Reading<T> {
 public:
    explicit Reading(T*) {}
    constexpr explicit operator bool() const { return true; }
};
#else
template <class T>
class Waiting {
 public:
    explicit Waiting(T*) {}
    ~Waiting() {}
    constexpr explicit operator bool() const { return true; }
};
template <class T>
class Reading : Waiting<T> {
 public:
    using Waiting<T>::Waiting;
    constexpr explicit operator bool() const { return true; }
};
#endif

}  // namespace pyev::py
