// sock_recv and its kin.
#include "aio/sock.hpp"

#include <errno.h>
#include <sys/socket.h>

#include <utility>

#include "aio/loop_base.hpp"
#include "py/call.hpp"
#include "py/error.hpp"

namespace pyev::aio {

using py::Ref;

// Up to this many bytes are received on the stack: what asks for more pays for an object that is
// cut to size afterwards.
static constexpr Py_ssize_t kOnStack = 16 * 1024;

// To let other threads run for the time of a copy costs as much as copying this many bytes.
static constexpr Py_ssize_t kHeld = 64 * 1024;

bool Sockets::init() {
    Ref futures = Ref::steal(PyImport_ImportModule("asyncio.futures"));
    Ref events = Ref::steal(PyImport_ImportModule("asyncio.base_events"));
    module = Ref::steal(PyImport_ImportModule("socket"));
    getaddrinfo = Ref::steal(PyUnicode_InternFromString("getaddrinfo"));
    if (!futures || !events || !module || !getaddrinfo) return false;
    auto find = [](Ref& from, const char* name) {
        return from ? Ref::steal(PyObject_GetAttrString(from.get(), name)) : Ref();
    };
    socket = find(module, "socket");
    if (socket) fileno = find(socket, "fileno");
    check_ssl = find(events, "_check_ssl_socket");
    future = find(futures, "Future");
    future_done = find(future, "done");
    set_result = find(future, "set_result");
    if (!fileno || !check_ssl || !future_done || !set_result) return false;
    future_names = Ref::steal(Py_BuildValue("(s)", "loop"));
    return ready();
}

Ref Operation::make(LoopBase* loop, const OperationKind& kind, py::Args args) {
    PyObject* slots[3] = {};
    if (!py::bind({kind.function, kind.parameters, kind.size, kind.size, kind.required}, args,
                  slots))
        return {};
    auto* type = reinterpret_cast<PyTypeObject*>(loop->sockets().operation.get());
    Ref object = Ref::steal(py::Slots<Operation>::create(type, nullptr, nullptr));
    if (!object) return {};
    auto* self = py::value_of<Operation>(object.get());
    self->kind_ = &kind;
    self->events_ = kind.events;
    if (!kind.events && !py::to_int(slots[1], self->events_)) return {};
    self->loop_ = Ref::borrow(loop->object());
    self->socket_ = Ref::borrow(slots[0]);
    self->arguments_[0] = Ref::borrow(slots[1]);
    self->arguments_[1] = Ref::borrow(slots[2]);
    self->phase_ = Phase::kCreated;
    return object;
}

Ref Operation::make_done(LoopBase* loop, const OperationKind& kind, const Ref& result) {
    auto* type = reinterpret_cast<PyTypeObject*>(loop->sockets().operation.get());
    Ref object = Ref::steal(py::Slots<Operation>::create(type, nullptr, nullptr));
    if (!object) return {};
    auto* self = py::value_of<Operation>(object.get());
    self->kind_ = &kind;
    self->arguments_[0] = result;
    self->phase_ = Phase::kCreated;
    return object;
}

bool Operation::lock(py::Lock& lock, bool) { return LoopBase::lock_of(loop_, lock, object()); }

LoopBase* Operation::loop() const { return py::value_of<LoopBase>(loop_.get()); }
const Sockets& Operation::sockets() const { return loop()->sockets(); }

bool Operation::check() {
    if (!socket_) return true;  // made done
    plain_ = Py_IS_TYPE(socket_.get(), reinterpret_cast<PyTypeObject*>(sockets().socket.get()));
    if (!plain_ && !py::call(sockets().check_ssl.get(), socket_.get())) return false;
    if (!loop()->debug()) return true;
    Ref timeout = Ref::steal(PyObject_CallMethod(socket_.get(), "gettimeout", nullptr));
    if (!timeout) return false;
    int blocking = PyObject_IsTrue(timeout.get());
    if (blocking < 0) return false;
    if (timeout.get() == Py_None || blocking)
        return py::raise(PyExc_ValueError, "the socket must be non-blocking");
    return true;
}

// Asked for each time: a socket that was closed must not be mistaken for its number's next owner.
bool Operation::fileno(int& fd) const {
    Ref number = plain_ ? py::call(sockets().fileno.get(), socket_.get())
                        : Ref::steal(PyObject_CallMethod(socket_.get(), "fileno", nullptr));
    return number && py::to_int(number.get(), fd);
}

// Waiting.

bool Operation::watching() const {
    return fd_ >= 0 &&
           loop()->readers().at(fd_, events_) == py::object_of(const_cast<Operation*>(this));
}

bool Operation::watch() {
    if (watching()) return true;
    int fd;
    if (!fileno(fd)) return false;
    // Another took its place, and what it was woken for: it waits until it is cancelled.
    if (std::exchange(waited_, true) && loop()->readers().at(fd, events_)) return true;
    if (!loop()->watch_operation(socket_.get(), fd, events_, object(), plain_)) return false;
    fd_ = fd;
    return true;
}

void Operation::unwatch() {
    if (!watching()) return;
    int fd = std::exchange(fd_, -1);
    Ref self = loop()->readers().take(fd, events_);
}

bool Operation::wait(Ref& future) {
    if (!watch()) return false;
    PyObject* arguments[] = {loop_.get()};
    future_ = Ref::steal(
        PyObject_Vectorcall(sockets().future.get(), arguments, 0, sockets().future_names.get()));
    if (!future_) return false;
    waiter_ = Ref::steal(Py_TYPE(future_.get())->tp_as_async->am_await(future_.get()));
    PyObject* yielded;
    if (!waiter_ || PyIter_Send(waiter_.get(), Py_None, &yielded) != PYGEN_NEXT) return false;
    future = Ref::steal(yielded);
    return true;
}

bool Operation::resume() {
    Ref waiter = std::move(waiter_), future = std::move(future_);
    PyObject* value;
    PySendResult result = PyIter_Send(waiter.get(), Py_None, &value);
    if (result == PYGEN_ERROR) return false;
    Ref unused = Ref::steal(value);
    if (result == PYGEN_RETURN) return true;
    return py::raise(PyExc_RuntimeError, "await wasn't used with future");
}

void Operation::wake() {
    if (phase_ != Phase::kWaiting || !future_) return;
    Ref self = Ref::borrow(object()), future = future_;
    Ref done = py::call(sockets().future_done.get(), future.get());
    // Woken before, or cancelled, and its task has not run yet: it will watch again if it must.
    if (done && done.get() == Py_True) return unwatch();
    if (!done || !py::call(sockets().set_result.get(), future.get(), Py_None))
        loop()->put_aside(object());
}

void Operation::finish() {
    if (phase_ == Phase::kOver) return;
    if (loop_) unwatch();
    phase_ = Phase::kOver;
    if (buffer_.obj) PyBuffer_Release(&buffer_);
}

// Without a GIL other threads may be waiting for the lock that `loop_` leads to.
void Operation::forget() {
    each_ref([this](Ref& ref) {
        if (py::kHasGil || &ref != &loop_) ref = Ref();
    });
}

// The coroutine.

PySendResult Operation::step(PyObject*, PyObject** result) {
    *result = nullptr;
    if (phase_ == Phase::kRunning) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return PYGEN_ERROR;
    }
    if (phase_ != Phase::kCreated && phase_ != Phase::kWaiting) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    Ref self = Ref::borrow(object()), value;
    bool first = std::exchange(phase_, Phase::kRunning) == Phase::kCreated;
    if (first ? check() : resume() && (!refused_ || py::raise_errno(refused_))) {
        Outcome outcome = kind_->attempt(*this, value);
        if (outcome == Outcome::kAgain && wait(value)) {
            phase_ = Phase::kWaiting;
            *result = value.release();
            return PYGEN_NEXT;
        }
        if (outcome == Outcome::kDone) *result = value.release();
    }
    finish();
    forget();
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

py::Stop* Operation::stop() {
    State* state = State::of_type(Py_TYPE(object()));
    return state ? &state->stop : nullptr;
}

Ref Operation::throw_in(py::Args args) {
    Ref self = Ref::borrow(object()), exception = py::thrown(args);
    if (!exception) return {};
    if (phase_ == Phase::kRunning)
        return py::raise(PyExc_ValueError, "coroutine already executing");
    close();
    py::put_raised(exception.release());
    return {};
}

Ref Operation::close() {
    if (phase_ == Phase::kRunning)
        return py::raise(PyExc_ValueError, "coroutine already executing");
    Ref self = Ref::borrow(object());
    finish();
    forget();
    return Ref::none();
}

void Operation::finalize() {
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine 'EventLoop.%s' was never awaited",
                         kind_->function) < 0)
        PyErr_WriteUnraisable(object());
}

Ref Operation::repr() {
    return Ref::steal(PyUnicode_FromFormat("<coroutine object EventLoop.%s at %p>",
                                           kind_ ? kind_->function : "?", object()));
}

Ref Operation::get_name() {
    return Ref::steal(PyUnicode_FromFormat("EventLoop.%s", kind_->function));
}

// The system calls.

static Outcome failed() {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return Outcome::kAgain;
    (void)py::raise_errno(errno);
    return Outcome::kFailed;
}

static Outcome outcome_of(const Ref& result) {
    if (result) return Outcome::kDone;
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError) &&
        !PyErr_ExceptionMatches(PyExc_InterruptedError))
        return Outcome::kFailed;
    PyErr_Clear();
    return Outcome::kAgain;
}

// Never waits, whatever the socket's own mode.
template <class F>
static ssize_t transfer(Py_ssize_t size, F call) {
    if (size <= kHeld) return call();
    PyThreadState* thread = PyEval_SaveThread();
    ssize_t result = call();
    int number = errno;
    PyEval_RestoreThread(thread);
    errno = number;
    return result;
}

// The socket's own method, with the arguments as they were given.
Outcome Operation::call(Operation& self, Ref& result) {
    Ref method = Ref::steal(PyObject_GetAttrString(self.socket_.get(), self.kind_->method));
    if (!method) return Outcome::kFailed;
    PyObject* arguments[] = {self.arguments_[0].get(), self.arguments_[1].get()};
    size_t count = arguments[1] ? 2 : arguments[0] ? 1 : 0;
    result = Ref::steal(PyObject_Vectorcall(method.get(), arguments, count, nullptr));
    return outcome_of(result);
}

Outcome Operation::accept(Operation& self, Ref& result) {
    Outcome outcome = call(self, result);
    if (outcome != Outcome::kDone) return outcome;
    Ref connection = Ref::steal(PySequence_GetItem(result.get(), 0)), done;
    if (connection)
        done = Ref::steal(PyObject_CallMethod(connection.get(), "setblocking", "O", Py_False));
    if (!done) result = Ref();
    return outcome_of(result);
}

Outcome Operation::recv(Operation& self, Ref& result) {
    // What is wrong with its arguments, the socket's method says best.
    if (!self.plain_ || !PyLong_CheckExact(self.arguments_[0].get())) return call(self, result);
    Py_ssize_t size = PyLong_AsSsize_t(self.arguments_[0].get());
    if (size <= 0) return PyErr_Clear(), call(self, result);
    int fd;
    if (!self.fileno(fd)) return Outcome::kFailed;
    if (size <= kOnStack) {
        char bytes[kOnStack];
        ssize_t got = ::recv(fd, bytes, size, MSG_DONTWAIT);
        if (got < 0) return failed();
        result = Ref::steal(PyBytes_FromStringAndSize(bytes, got));
        return outcome_of(result);
    }
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, size);
    if (!bytes) return Outcome::kFailed;
    char* data = PyBytes_AS_STRING(bytes);
    ssize_t got = transfer(size, [&] { return ::recv(fd, data, size, MSG_DONTWAIT); });
    if (got < 0) {
        Ref unused = Ref::steal(bytes);
        return failed();
    }
    if (got != size) _PyBytes_Resize(&bytes, got);
    result = Ref::steal(bytes);
    return outcome_of(result);
}

Outcome Operation::recv_into(Operation& self, Ref& result) {
    Py_buffer buffer;
    if (!self.plain_) return call(self, result);
    if (PyObject_GetBuffer(self.arguments_[0].get(), &buffer, PyBUF_WRITABLE) < 0)
        return PyErr_Clear(), call(self, result);
    int fd;
    ssize_t got = 0;
    bool known = self.fileno(fd);
    if (known && buffer.len)
        got =
            transfer(buffer.len, [&] { return ::recv(fd, buffer.buf, buffer.len, MSG_DONTWAIT); });
    int number = errno;
    PyBuffer_Release(&buffer);
    errno = number;
    if (!known) return Outcome::kFailed;
    if (got < 0) return failed();
    result = Ref::steal(PyLong_FromSsize_t(got));
    return outcome_of(result);
}

Outcome Operation::recvfrom_into(Operation& self, Ref& result) {
    Ref& size = self.arguments_[1];
    int given = size ? PyObject_IsTrue(size.get()) : 0;
    if (given < 0) return Outcome::kFailed;
    if (!given) {
        Py_ssize_t length = PyObject_Size(self.arguments_[0].get());
        if (length < 0) return Outcome::kFailed;
        size = Ref::steal(PyLong_FromSsize_t(length));
        if (!size) return Outcome::kFailed;
    }
    return call(self, result);
}

// sock.send(data), then sock.send(memoryview(data)[sent:]).
Outcome Operation::send_part(Ref& result) {
    Ref rest = arguments_[0];
    if (view_) {
        Ref start = Ref::steal(PyLong_FromSsize_t(sent_)), slice;
        if (start) slice = Ref::steal(PySlice_New(start.get(), nullptr, nullptr));
        rest = slice ? Ref::steal(PyObject_GetItem(view_.get(), slice.get())) : Ref();
    }
    if (!rest) return Outcome::kFailed;
    Ref number = Ref::steal(PyObject_CallMethod(socket_.get(), "send", "O", rest.get()));
    Outcome outcome = outcome_of(number);
    if (outcome == Outcome::kFailed) return outcome;
    Py_ssize_t sent = number ? PyLong_AsSsize_t(number.get()) : 0;
    if (sent < 0 && PyErr_Occurred()) return Outcome::kFailed;
    sent_ += sent;
    Py_ssize_t length = PyObject_Size(view_ ? view_.get() : arguments_[0].get());
    if (length < 0) return Outcome::kFailed;
    if (sent_ == length) {
        result = Ref::none();
        return Outcome::kDone;
    }
    if (!view_) view_ = Ref::steal(PyMemoryView_FromObject(arguments_[0].get()));
    return view_ ? Outcome::kAgain : Outcome::kFailed;
}

Outcome Operation::sendall(Operation& self, Ref& result) {
    if (!self.plain_) return self.send_part(result);
    Py_buffer& buffer = self.buffer_;
    if (!buffer.obj && PyObject_GetBuffer(self.arguments_[0].get(), &buffer, PyBUF_SIMPLE) < 0)
        return PyErr_Clear(), self.send_part(result);
    int fd;
    if (!self.fileno(fd)) return Outcome::kFailed;
    const char* rest = static_cast<const char*>(buffer.buf) + self.sent_;
    Py_ssize_t size = buffer.len - self.sent_;
    ssize_t sent = transfer(size, [&] {
        return ::send(fd, rest, static_cast<size_t>(size), MSG_DONTWAIT | MSG_NOSIGNAL);
    });
    if (sent < 0) {
        Outcome outcome = failed();
        if (outcome == Outcome::kFailed || size) return outcome;
        sent = 0;  // no room for an empty datagram: as asyncio has it, nothing was to be sent
    }
    self.sent_ += sent;
    if (sent < size) return Outcome::kAgain;
    result = Ref::none();
    return Outcome::kDone;
}

Outcome Operation::wait_only(Operation& self, Ref& result) {
    if (!std::exchange(self.sent_, 1)) return Outcome::kAgain;
    result = Ref::none();
    return Outcome::kDone;
}

Outcome Operation::answer(Operation& self, Ref& result) {
    result = self.arguments_[0];
    return Outcome::kDone;
}

const OperationKind kSockRecv = {"sock_recv", {"sock", "n"},  2, 2, EV_READ,
                                 "recv",      Operation::recv};
const OperationKind kSockRecvInto = {"sock_recv_into", {"sock", "buf"},     2, 2, EV_READ,
                                     "recv_into",      Operation::recv_into};
const OperationKind kSockRecvfrom = {"sock_recvfrom", {"sock", "bufsize"}, 2, 2, EV_READ,
                                     "recvfrom",      Operation::call};
const OperationKind kSockRecvfromInto = {
    "sock_recvfrom_into", {"sock", "buf", "nbytes"}, 3, 2, EV_READ,
    "recvfrom_into",      Operation::recvfrom_into};
const OperationKind kSockSendall = {"sock_sendall", {"sock", "data"},  2, 2, EV_WRITE,
                                    "send",         Operation::sendall};
const OperationKind kSockSendto = {
    "sock_sendto", {"sock", "data", "address"}, 3, 3, EV_WRITE, "sendto", Operation::call};
const OperationKind kSockAccept = {"sock_accept", {"sock"},         1, 1, EV_READ,
                                   "accept",      Operation::accept};
const OperationKind kSockWait = {"_sock_wait", {"sock", "events"},  2, 2, 0,
                                 nullptr,      Operation::wait_only};
const OperationKind kGetaddrinfo = {"getaddrinfo", {}, 0, 0, 0, nullptr, Operation::answer};

const py::TypeInfo Operation::kType = {
    "pyev._core.Operation",
    "What sock_recv() and its kin return: a coroutine.",
    py::CoroutineOf<Operation>::methods,
    py::CoroutineOf<Operation>::getset,
    py::CoroutineOf<Operation>::slots,
};

}  // namespace pyev::aio
