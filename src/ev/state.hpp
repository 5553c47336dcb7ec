// What the ev layer keeps per interpreter: its types, its exception, its loops.
//
// Reached through the loop an object belongs to; looked up through the type only when a loop or a
// watcher is made.
#pragma once

#include <Python.h>
#include <ev.h>

#include <array>
#include <cstddef>
#include <type_traits>

#include "py/lock.hpp"
#include "py/object.hpp"
#include "py/ref.hpp"

namespace pyev::ev {

class Async;
class Check;
class Child;
class Cleanup;
class Embed;
class Fork;
class Idle;
class Io;
class Loop;
class Once;
class Periodic;
class Prepare;
class Scheduler;
class Signal;
class Stat;
class Timer;
class Watcher;

template <class... T>
struct TypeList {
    static constexpr size_t size = sizeof...(T);

    template <class U>
    static constexpr size_t index() {
        size_t position = 0;
        bool found = ((std::is_same_v<T, U> || (++position, false)) || ...);
        return found ? position : size;
    }
};

// Watcher comes before its subclasses.
using Types = TypeList<Loop, Watcher, Io, Timer, Periodic, Scheduler, Signal, Child, Stat, Idle,
                       Prepare, Check, Embed, Fork, Async, Cleanup, Once>;

// Owned by the module and by every loop: at the interpreter's end either may go first.
class State {
 public:
    std::array<py::Ref, Types::size> types;
    py::Ref stat_result;
    py::Ref context_callback;             // the type of callbacks on driven loops
    py::Ref error;                        // pyev.Error
    std::array<py::Ref, 32> bits;         // each one-bit revents as an int: most are no small int
    py::Ref set_wakeup_fd, wakeup_names;  // signal's function, and its keyword
    Loop* loops = nullptr;                // all open ones, linked
    Loop* default_loop = nullptr;
    [[no_unique_address]] py::Mutex mutex;  // of these two
    unsigned long main_thread = 0;

    // Filled in by the module, whose definition types are looked up by.
    static inline PyModuleDef* definition = nullptr;

    static State* of(PyObject* module) { return *static_cast<State**>(PyModule_GetState(module)); }
    // Null and an exception when `type` is none of ours.
    static State* of_type(PyTypeObject* type) {
        PyObject* module = PyType_GetModuleByDef(type, definition);
        return module ? of(module) : nullptr;
    }

    void acquire() { ++users_; }
    void release() {
        if (--users_ == 0) delete this;
    }

    template <class T>
    PyTypeObject* type() const {
        return reinterpret_cast<PyTypeObject*>(types[Types::index<T>()].get());
    }

    // `events` as a Python int, from stock in nearly every case.
    py::Ref revents(int events) const {
        unsigned mask = static_cast<unsigned>(events);
        if (mask && (mask & (mask - 1)) == 0) return bits[__builtin_ctz(mask)];
        return py::Ref::steal(PyLong_FromLong(events));
    }

    template <class F>
    void each_ref(F f) {
        for (auto& ref : types) f(ref);
        for (auto& ref : bits) f(ref);
        f(error);
        f(stat_result);
        f(context_callback);
        f(set_wakeup_fd);
        f(wakeup_names);
    }

 private:
    py::Atomic<int> users_ = 1;
};

}  // namespace pyev::ev
