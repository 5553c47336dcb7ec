// StreamCall: what the methods of StreamReader that read return, and StreamWriter.drain().
//
// A coroutine. Nothing happens before it is awaited: nothing is taken from the buffer. What is
// there is taken without a Python frame, and so it is waited for. Where something is out of the
// ordinary, it goes on as asyncio's own coroutine.
#pragma once

#include <Python.h>

#include "net/streams.hpp"
#include "py/args.hpp"
#include "py/coroutine.hpp"
#include "py/object.hpp"
#include "py/ref.hpp"

namespace pyev::net {

class State;

class StreamCall {
 public:
    static const py::TypeInfo kType;

    enum class Kind : unsigned char { kRead, kExactly, kUntil, kLine, kNext, kDrain };

    // `stream` is the reader, or the writer; `size` is for the first two kinds, `separator` for
    // kUntil.
    static py::Ref make(Streams& streams, PyObject* stream, Kind kind, Py_ssize_t size = 0,
                        PyObject* separator = nullptr);

    ~StreamCall() { py::let_rest(stop()); }

    template <class F>
    void each_ref(F f) {
        f(stream_);
        f(separator_);
        f(inner_);
    }
    bool enter() { return true; }
    bool alive() { return true; }
    bool init(py::Args) { return true; }
    void stop_for_clear() {}
    bool unfinished() const { return phase_ == Phase::kCreated || phase_ == Phase::kWaiting; }
    void finalize();
    py::Ref repr();

    PySendResult step(PyObject* value, PyObject** result);
    bool fresh() const { return phase_ == Phase::kCreated; }
    py::Stop* stop();
    py::Ref throw_in(py::Args args);
    py::Ref close();
    py::Ref get_name();

 private:
    enum class Phase : unsigned char { kNone, kCreated, kRunning, kWaiting, kDelegated, kOver };

    PyObject* object() { return py::object_of(this); }
    // Null and an exception at the interpreter's end.
    State* state();
    Streams* streams();
    const char* method() const;
    const char* owner() const { return kind_ == Kind::kDrain ? "StreamWriter" : "StreamReader"; }

    [[nodiscard]] bool start(Phase& before);
    PySendResult go_on(PyObject** result);
    PySendResult answered(Phase phase, PySendResult what, PyObject** result);
    Served attempt(Streams& streams, py::Ref& result);
    Served read(Streams& streams, py::Ref& bytes);
    Served drain(Streams& streams);
    Served read_until(Streams& streams, ReaderAttributes& reader, py::Ref& bytes);
    Served read_on(Streams& streams, ReaderAttributes& reader, py::Ref& bytes);
    Served overrun(Streams& streams, ReaderAttributes& reader, const char* message,
                   size_t consumed);
    [[nodiscard]] bool wait(ReaderAttributes& reader);
    [[nodiscard]] bool over(PySendResult what, PyObject** result);
    [[nodiscard]] bool forget_waiter();
    PySendResult delegate(Streams& streams, PyObject** result);
    void finish();

    py::Ref stream_, separator_;
    py::Ref inner_;  // what it waits for: an iterator over the future, or asyncio's coroutine
    Py_ssize_t size_ = 0;
    size_t offset_ = 0;  // where the separator is searched for next
    Kind kind_ = Kind::kRead;
    Phase phase_ = Phase::kNone;
    bool waited_ = false;
};

}  // namespace pyev::net
