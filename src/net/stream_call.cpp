// What read(), readline(), drain() and their kin return.
#include "net/stream_call.hpp"

#include <algorithm>
#include <cstring>

#include "net/socket_transport.hpp"
#include "net/state.hpp"
#include "py/coroutine.hpp"
#include "py/error.hpp"

namespace pyev::net {

using py::Ref;

Ref StreamCall::make(Streams& streams, PyObject* reader, Kind kind, Py_ssize_t size,
                     PyObject* separator) {
    auto* type = reinterpret_cast<PyTypeObject*>(streams.call.get());
    Ref object = Ref::steal(py::Slots<StreamCall>::create(type, nullptr, nullptr));
    if (!object) return {};
    auto* self = py::value_of<StreamCall>(object.get());
    self->stream_ = Ref::borrow(reader);
    self->separator_ = Ref::borrow(separator);
    self->size_ = size;
    self->kind_ = kind;
    self->phase_ = Phase::kCreated;
    return object;
}

State* StreamCall::state() { return static_cast<State*>(aio::State::of_type(Py_TYPE(object()))); }

Streams* StreamCall::streams() {
    State* state = this->state();
    return state ? &state->streams : nullptr;
}

py::Stop* StreamCall::stop() {
    State* state = this->state();
    return state ? &state->stop : nullptr;
}

const char* StreamCall::method() const {
    static constexpr const char* names[] = {"read",     "readexactly", "readuntil",
                                            "readline", "__anext__",   "drain"};
    return names[static_cast<size_t>(kind_)];
}

// What is in the buffer.

Served StreamCall::attempt(Streams& streams, Ref& result) {
    if (kind_ != Kind::kDrain) return read(streams, result);
    result = Ref::none();
    return drain(streams);
}

Served StreamCall::read(Streams& streams, Ref& bytes) {
    ReaderAttributes reader(streams, stream_.get());
    if (!reader.plain() || (!waited_ && reader.failed())) return Served::kUnusual;
    size_t size = static_cast<size_t>(size_), have = reader.buffered();
    if (kind_ > Kind::kExactly) return read_until(streams, reader, bytes);
    if (!size) return Served::kUnusual;
    if (kind_ == Kind::kExactly && have < size) return read_on(streams, reader, bytes);
    if (!have && !waited_ && !reader.ended()) return read_on(streams, reader, bytes);
    return reader.take(std::min(size, have), bytes) ? Served::kDone : Served::kFailed;
}

// What cannot be the separator's beginning is not looked at twice.
Served StreamCall::read_until(Streams& streams, ReaderAttributes& reader, Ref& bytes) {
    const char* separator = separator_ ? PyBytes_AS_STRING(separator_.get()) : "\n";
    size_t length = separator_ ? static_cast<size_t>(PyBytes_GET_SIZE(separator_.get())) : 1;
    py::Lock lock(reader.buffer());
    size_t size = reader.buffered();
    if (offset_ + length <= size) {
        const char* data = reader.data();
        const void* found = length == 1 ? std::memchr(data + offset_, *separator, size - offset_)
                                        : memmem(data + offset_, size - offset_, separator, length);
        if (found) {
            size_t start = static_cast<size_t>(static_cast<const char*>(found) - data);
            if (start > reader.limit())
                return overrun(streams, reader,
                               "Separator is found, but chunk is longer than limit", start);
            return reader.take(start + length, bytes) ? Served::kDone : Served::kFailed;
        }
        offset_ = size + 1 - length;
        if (offset_ > reader.limit())
            return overrun(streams, reader, "Separator is not found, and chunk exceed the limit",
                           offset_);
    }
    lock.end();
    return read_on(streams, reader, bytes);
}

// There is too little: more is waited for, or the end has come.
Served StreamCall::read_on(Streams& streams, ReaderAttributes& reader, Ref& bytes) {
    if (reader.open() && !reader.waited_for())
        return wait(reader) ? Served::kWaits : Served::kFailed;
    if (!reader.ended()) return Served::kUnusual;
    if (!reader.take_all(bytes)) return Served::kFailed;
    if (kind_ == Kind::kLine || (kind_ == Kind::kNext && PyBytes_GET_SIZE(bytes.get())))
        return Served::kDone;
    if (kind_ == Kind::kNext) {
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return Served::kFailed;
    }
    Ref wanted = kind_ == Kind::kExactly ? Ref::steal(PyLong_FromSsize_t(size_)) : Ref::none();
    Ref error;
    if (wanted) error = py::call(streams.incomplete_read.get(), bytes.get(), wanted.get());
    if (error) PyErr_SetObject(streams.incomplete_read.get(), error.get());
    return Served::kFailed;
}

// A line that is too long is dropped; or all there is, as long as its end has not come.
Served StreamCall::overrun(Streams& streams, ReaderAttributes& reader, const char* message,
                           size_t consumed) {
    Ref error =
        Ref::steal(PyObject_CallFunction(streams.limit_overrun.get(), "sn", message, consumed));
    if (!error) return Served::kFailed;
    PyErr_SetObject(streams.limit_overrun.get(), error.get());
    if (kind_ == Kind::kUntil) return Served::kFailed;
    Ref context = Ref::steal(py::take_raised());
    bool ends = consumed < reader.buffered() && reader.data()[consumed] == '\n';
    if (!reader.drop(ends ? consumed + 1 : reader.buffered())) return Served::kFailed;
    PyErr_SetString(PyExc_ValueError, message);
    Ref raised = Ref::steal(py::take_raised());
    PyException_SetContext(raised.get(), context.release());
    py::put_raised(raised.release());
    return Served::kFailed;
}

// What is written.

// Done when nobody has to wait.
Served StreamCall::drain(Streams& streams) {
    Attributes writer(streams, stream_.get());
    if (!writer) return Served::kUnusual;
    Ref reader = Ref::borrow(writer.get(Attribute::_reader));
    Ref transport = Ref::borrow(writer.get(Attribute::_transport));
    Ref protocol = Ref::borrow(writer.get(Attribute::_protocol));
    if (!reader || !transport || !protocol) return Served::kUnusual;
    if (reader.get() != Py_None) {
        ReaderAttributes attributes(streams, reader.get());
        if (!attributes.plain() || attributes.failed()) return Served::kUnusual;
    }
    if (!streams.feeds(protocol.get()) || !streams.protocol.untouched()) return Served::kUnusual;
    Attributes flow(streams, protocol.get());
    if (!flow || flow.get(Attribute::_drain_helper) ||
        flow.get(Attribute::_connection_lost) != Py_False ||
        flow.get(Attribute::_paused) != Py_False)
        return Served::kUnusual;
    Ref closing = py::call_method(transport.get(), streams.name(Attribute::is_closing));
    if (!closing) return Served::kFailed;
    return closing.get() == Py_False ? Served::kDone : Served::kUnusual;
}

// Waiting.

bool StreamCall::wait(ReaderAttributes& reader) {
    Ref future = reader.make_waiter();
    if (!future) return false;
    PyAsyncMethods* methods = Py_TYPE(future.get())->tp_as_async;
    inner_ = methods && methods->am_await ? Ref::steal(methods->am_await(future.get())) : Ref();
    if (!inner_ && !PyErr_Occurred())
        (void)py::raise(PyExc_TypeError, "object %.100s can't be used in 'await' expression",
                        Py_TYPE(future.get())->tp_name);
    PyObject* result = nullptr;
    return inner_ || over(PYGEN_ERROR, &result);
}

bool StreamCall::forget_waiter() {
    Streams* streams = this->streams();
    return streams &&
           PyObject_SetAttr(stream_.get(), streams->name(Attribute::_waiter), Py_None) == 0;
}

// What it waited for is over. False: with an exception.
bool StreamCall::over(PySendResult what, PyObject** result) {
    Ref unused = Ref::steal(std::exchange(*result, nullptr));
    waited_ = true;
    inner_ = Ref();
    if (what == PYGEN_RETURN) return forget_waiter();
    py::ErrorGuard guard;
    if (!forget_waiter()) PyErr_Clear();
    return false;
}

// asyncio's own coroutine does it.
PySendResult StreamCall::delegate(Streams& streams, PyObject** result) {
    PyObject* function = kind_ == Kind::kDrain ? streams.writer.method(Streams::kDrain)
                                               : streams.reader.method(static_cast<size_t>(kind_));
    Ref argument = separator_;
    if (kind_ <= Kind::kExactly) {
        argument = Ref::steal(PyLong_FromSsize_t(size_));
        if (!argument) return PYGEN_ERROR;
    }
    inner_ = argument ? py::call(function, stream_.get(), argument.get())
                      : py::call(function, stream_.get());
    if (!inner_) return PYGEN_ERROR;
    PySendResult what = PyIter_Send(inner_.get(), Py_None, result);
    if (what == PYGEN_NEXT) phase_ = Phase::kDelegated;
    return what;
}

// The coroutine.

// Until it has its bytes or must wait.
PySendResult StreamCall::go_on(PyObject** result) {
    Streams* streams = this->streams();
    while (streams) {
        Ref bytes;
        Served outcome = attempt(*streams, bytes);
        if (outcome == Served::kFailed) return PYGEN_ERROR;
        if (outcome == Served::kUnusual) return delegate(*streams, result);
        if (outcome == Served::kDone) return *result = bytes.release(), PYGEN_RETURN;
        PySendResult what = PyIter_Send(inner_.get(), Py_None, result);
        if (what == PYGEN_NEXT) return phase_ = Phase::kWaiting, what;
        if (!over(what, result)) return PYGEN_ERROR;
    }
    return PYGEN_ERROR;
}

// What it waits for has answered.
PySendResult StreamCall::answered(Phase phase, PySendResult what, PyObject** result) {
    if (what == PYGEN_NEXT)
        phase_ = phase;
    else if (phase == Phase::kWaiting)
        what = over(what, result) ? go_on(result) : PYGEN_ERROR;
    if (what != PYGEN_NEXT) finish();
    return what;
}

bool StreamCall::start(Phase& before) {
    if (phase_ == Phase::kRunning)
        return py::raise(PyExc_ValueError, "coroutine already executing");
    if (phase_ == Phase::kNone || phase_ == Phase::kOver)
        return py::raise(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    before = std::exchange(phase_, Phase::kRunning);
    return true;
}

PySendResult StreamCall::step(PyObject* value, PyObject** result) {
    *result = nullptr;
    Phase before;
    if (!start(before)) return PYGEN_ERROR;
    Ref self = Ref::borrow(object());
    if (before != Phase::kCreated)
        return answered(before, PyIter_Send(inner_.get(), value, result), result);
    PySendResult what = go_on(result);
    if (what != PYGEN_NEXT) finish();
    return what;
}

Ref StreamCall::throw_in(py::Args args) {
    Ref self = Ref::borrow(object()), exception = py::thrown(args);
    Phase before;
    if (!exception || !start(before)) return {};
    if (before == Phase::kCreated) {
        finish();
        py::put_raised(exception.release());
        return {};
    }
    Ref yielded = Ref::steal(PyObject_CallMethod(inner_.get(), "throw", "O", exception.get()));
    PySendResult what = PYGEN_NEXT;
    if (!yielded) {
        yielded = py::returned();
        what = yielded ? PYGEN_RETURN : PYGEN_ERROR;
    }
    PyObject* result = yielded.release();
    what = answered(before, what, &result);
    return py::answer(what, result);
}

Ref StreamCall::close() {
    if (phase_ == Phase::kNone || phase_ == Phase::kOver) return Ref::none();
    Phase before;
    if (!start(before)) return {};
    Ref self = Ref::borrow(object()), closed = Ref::none();
    if (before != Phase::kCreated)
        closed = Ref::steal(PyObject_CallMethod(inner_.get(), "close", nullptr));
    PyObject* result = nullptr;
    if (before == Phase::kWaiting && !over(closed ? PYGEN_RETURN : PYGEN_ERROR, &result))
        closed = Ref();
    finish();
    return closed;
}

void StreamCall::finish() {
    phase_ = Phase::kOver;
    each_ref([](Ref& ref) { ref = Ref(); });
}

void StreamCall::finalize() {
    py::ErrorGuard guard;
    bool told = phase_ == Phase::kCreated ? PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                                                             "coroutine '%s.%s' was never awaited",
                                                             owner(), method()) == 0
                                          : static_cast<bool>(close());
    if (!told) PyErr_WriteUnraisable(object());
}

Ref StreamCall::repr() {
    return Ref::steal(
        PyUnicode_FromFormat("<coroutine object %s.%s at %p>", owner(), method(), object()));
}

Ref StreamCall::get_name() { return Ref::steal(PyUnicode_FromFormat("%s.%s", owner(), method())); }

const py::TypeInfo StreamCall::kType = {
    "pyev._core.StreamCall",
    "What the methods of StreamReader and StreamWriter return: a coroutine.",
    py::CoroutineOf<StreamCall>::methods,
    py::CoroutineOf<StreamCall>::getset,
    py::CoroutineOf<StreamCall>::slots,
};

}  // namespace pyev::net
