// What the interpreter and asyncio ask of a coroutine that is made natively, said once.
//
// A type T of such coroutines provides
//
//   PySendResult step(PyObject* value, PyObject** result)   as tp_as_async's am_send
//   bool fresh() const                                      it has not been started
//   Ref throw_in(Args), Ref close()
//   Ref get_name()                                          for __qualname__
//   Stop* stop()                                            null: an exception is set
//
// and takes its slots, its methods and its attributes from here.
#pragma once

#include <Python.h>

#include <utility>

#include "py/call.hpp"
#include "py/error.hpp"
#include "py/lock.hpp"
#include "py/method.hpp"
#include "py/object.hpp"

namespace pyev::py {

// The exception that the arguments of throw() mean: throw(exception), or as generators have it,
// throw(type[, value[, traceback]]). Empty: an exception is set.
inline Ref thrown(Args args) {
    if (args.count < 1 || args.names) return raise(PyExc_TypeError, "throw() needs an exception");
    Ref exception = Ref::borrow(args.values[0]);
    PyObject* value = args.count > 1 && args.values[1] != Py_None ? args.values[1] : nullptr;
    if (value && PyExceptionInstance_Check(value))
        exception = Ref::borrow(value);
    else if (PyExceptionClass_Check(exception.get()))
        exception = value ? call(exception.get(), value) : call(exception.get());
    if (exception && !PyExceptionInstance_Check(exception.get()))
        return raise(PyExc_TypeError, "exceptions must derive from BaseException, not '%.200s'",
                     Py_TYPE(exception.get())->tp_name);
    return exception;
}

// The value of the StopIteration that is set, which is cleared; empty: another exception is set.
inline Ref returned() {
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) return {};
    Ref stop = Ref::steal(take_raised());
    return Ref::steal(PyObject_GetAttrString(stop.get(), "value"));
}

// What send() and throw() make of a coroutine's answer: what it returns is raised.
inline Ref answer(PySendResult what, PyObject* result) {
    Ref held = Ref::steal(result);
    if (what != PYGEN_RETURN) return held;
    // A tuple would be taken for the arguments of StopIteration.
    Ref stop = call(PyExc_StopIteration, held.get());
    if (stop) PyErr_SetObject(PyExc_StopIteration, stop.get());
    return {};
}

// StopIterations, one after the other in the same object: to make one for each value that a
// coroutine returns costs a quarter of what it takes to read a line. CPython's `await` asks a
// coroutine that is not its own for one since 3.12, takes the value, and drops it. Without a GIL,
// where threads share this, each is made anew.
class Stop {
 public:
    template <class F>
    void each_ref(F f) {
        f(spare_);
    }

    void raise(Ref value) {
        if constexpr (!kHasGil) {
            Ref stop = call(PyExc_StopIteration, value.get());
            if (stop) put_raised(stop.release());
            return;
        }
        if (!clean()) {
            spare_ = call(PyExc_StopIteration, Py_None);
            if (!spare_) return;
        }
        set(std::move(value));
        put_raised(spare_.new_ref());
    }

    // Keeps no value, and no frame, longer than the coroutine that returned it.
    void rest() {
        if (!clean())
            spare_ = Ref();
        else
            set(Ref::none());
    }

 private:
    // Whether nobody else has it, nor has left anything in it.
    bool clean() const {
        auto* stop = reinterpret_cast<PyStopIterationObject*>(spare_.get());
        return stop && Py_REFCNT(spare_.get()) == 1 && Py_REFCNT(stop->args) == 1 && !stop->dict &&
               !stop->traceback && !stop->context && !stop->cause;
    }
    // Its arguments are one tuple, which nobody else has either.
    void set(Ref value) {
        auto* stop = reinterpret_cast<PyStopIterationObject*>(spare_.get());
        PyObject** argument = &PyTuple_GET_ITEM(stop->args, 0);
        Ref first = Ref::steal(std::exchange(*argument, value.new_ref()));
        Ref second = Ref::steal(std::exchange(stop->value, value.release()));
    }

    Ref spare_;
};

// For a coroutine's destructor.
inline void let_rest(Stop* stop) {
    if (stop) return stop->rest();
    PyErr_Clear();
}

template <class T>
struct CoroutineOf {
    // Without a GIL, two threads may take the same coroutine for theirs.
    static PySendResult am_send(PyObject* self, PyObject* value, PyObject** result) {
        Lock one(self);
        Locked locked(value_of<T>(self));
        if (locked) return value_of<T>(self)->step(value, result);
        *result = nullptr;
        return PYGEN_ERROR;
    }

    static PyObject* send(PyObject* self, PyObject* value) {
        if (value != Py_None && value_of<T>(self)->fresh()) {
            PyErr_SetString(PyExc_TypeError,
                            "can't send non-None value to a just-started coroutine");
            return nullptr;
        }
        PyObject* result;
        PySendResult what = am_send(self, value, &result);
        return answer(what, result).release();
    }

    static PyObject* next(PyObject* self) {
        T* value = value_of<T>(self);
        Stop* stop = value->stop();
        PyObject* result = nullptr;
        PySendResult what = stop ? am_send(self, Py_None, &result) : PYGEN_ERROR;
        if (what != PYGEN_RETURN) return result;
        // Without an exception it means None.
        Ref held = Ref::steal(result);
        if (result != Py_None) stop->raise(std::move(held));
        return nullptr;
    }

    static inline const PyType_Slot slots[] = {
        {Py_am_await, reinterpret_cast<void*>(Py_NewRef)},
        {Py_am_send, reinterpret_cast<void*>(am_send)},
        {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
        {Py_tp_iternext, reinterpret_cast<void*>(next)},
        {0, nullptr},
    };

    static PyObject* last_name(PyObject* self, void*) {
        Ref name = value_of<T>(self)->get_name();
        Py_ssize_t size = name ? PyUnicode_GET_LENGTH(name.get()) : 0;
        Py_ssize_t dot = name ? PyUnicode_FindChar(name.get(), '.', 0, size, -1) : -2;
        return dot < -1 ? nullptr : PyUnicode_Substring(name.get(), dot + 1, size);
    }

    static inline PyMethodDef methods[] = {
        {"send", send, METH_O, "send($self, value, /)\n--\n\nAs a coroutine's."},
        fast<&T::throw_in>("throw", "throw($self, exception, /)\n--\n\nAs a coroutine's."),
        noargs<&T::close>("close", "close($self, /)\n--\n\nAs a coroutine's."),
        {nullptr, nullptr, 0, nullptr},
    };

    static inline PyGetSetDef getset[] = {
        {"__name__", last_name, nullptr, "The method's name.", nullptr},
        get<&T::get_name>("__qualname__", "The class's and the method's name."),
        {nullptr, nullptr, nullptr, nullptr, nullptr},
    };
};

}  // namespace pyev::py
