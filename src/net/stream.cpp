// A transport of bytes.
#include "net/stream.hpp"

#include <errno.h>
#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "net/ssl_transport.hpp"

namespace pyev::net {

using py::Ref;

// What a read brings goes through the loop's buffer below this size: to copy so little costs less
// than to make an object of a size that it may not have.
static constexpr uint32_t kGuessed = 8 * 1024;

static constexpr uint32_t kReadSize = aio::LoopBase::kReadSize;

// So much is sent in a turn. The rest goes on in the next one, as if the kernel had
// refused it: a sender that is stopped here leaves what it sent in the processor's cache until it
// is read, and leaves the others their turn. Between two ends of one loop, GiB/s by the size of the
// pieces: 64 KiB 5.8, 128 KiB 7.5, 256 KiB 8.5, 512 KiB 9. Of more, 9.7 by CUBIC; by BBR mostly 5,
// for that then paces what it sends. Between two processes the size does not matter.
static constexpr uint32_t kPerTurn = 512 * 1024;

// A sink makes records of what it sends, so that the bytes pass through the cache more often.
static constexpr size_t kSunkPerTurn = 128 * 1024;

// In debug mode, coroutines tell where they were made: the reader stays asyncio's.
bool Stream::open(const Parts& parts) {
    if (!learn(parts.protocol)) return false;
    if (feeds_ && !parts.loop->debug() && !state()->streams.adopt(parts.protocol)) return false;
    return Transport::open(parts);
}

bool Stream::learn(PyObject* protocol) {
    State* state = this->state();
    int buffered = state ? PyObject_IsInstance(protocol, state->buffered_protocol.get()) : -1;
    buffered_ = buffered > 0;
    sink_ = state ? SslTransport::sink_of(*state, protocol) : nullptr;
    feeds_ = state && state->streams.feeds(protocol);
    return buffered >= 0;
}

Ref Stream::set_protocol(py::Args args) {
    PyObject* protocol = py::bind_one("set_protocol", "protocol", args);
    if (!protocol) return {};
    expected_ = 0;
    return learn(protocol) ? Transport::set_protocol(args) : Ref();
}

// Reading.

bool Stream::ready(int revents) {
    if (revents & EV_READ && !receive()) return false;
    return !(revents & EV_WRITE) || lost_ || !blocked() || write_ready();
}

bool Stream::receive() {
    if (sink_) return read_for_sink();
    if (feeds_) return read_for_reader();
    return buffered_ ? read_into_protocol() : read_data();
}

// Much goes straight into an object as large as what came last: most messages are like the ones
// before. What comes beyond that goes to the loop's buffer, and is copied. No more at once than
// asyncio reads: there are protocols that bound what they hold by pausing when they have so much.
Ref Stream::read_bytes(ssize_t& size) {
    char* buffer = loop()->read_buffer();
    if (!buffer) return {};
    if (expected_ < kGuessed) {
        size = device().read(fd(), buffer, kReadSize);
        return size > 0 ? Ref::steal(PyBytes_FromStringAndSize(buffer, size)) : Ref::none();
    }
    ssize_t guess = expected_;
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, guess);
    if (!bytes) return {};
    iovec vectors[] = {
        {PyBytes_AS_STRING(bytes), expected_},
        {buffer, kReadSize - expected_},
    };
    size = readv(fd(), vectors, expected_ < kReadSize ? 2 : 1);
    int number = errno;
    if (size != guess) (void)_PyBytes_Resize(&bytes, std::max<ssize_t>(size, 0));
    if (bytes && size > guess)
        std::memcpy(PyBytes_AS_STRING(bytes) + guess, buffer, static_cast<size_t>(size - guess));
    errno = number;
    return Ref::steal(bytes);
}

// As often as brings what may be sent in a turn, and then once more, so that a reader that fell
// behind finds its bytes in the cache again. The next one comes into the memory of the one before.
bool Stream::read_data() {
    for (uint32_t more = kPerTurn / kReadSize;; --more) {
        ssize_t size = 0;
        Ref data = read_bytes(size);
        if (data && size <= 0) return read_nothing(size);
        expected_ = static_cast<uint32_t>(size);
        if (!data || !call_protocol(Name::data_received, data.get())) return data_failed();
        if (size < kReadSize || !more || lost_ || !reading() || sink_ || feeds_ || buffered_)
            return true;
    }
}

// A reader gets what is read without a Python frame, unless it is out of the ordinary.
bool Stream::read_for_reader() {
    char* buffer = loop()->read_buffer();
    ssize_t size = buffer ? device().read(fd(), buffer, kReadSize) : 0;
    if (!buffer) return data_failed();
    if (size <= 0) return read_nothing(size);
    Ref protocol = protocol_;
    Served fed = State::of(*loop()).streams.feed(protocol.get(), buffer, static_cast<size_t>(size));
    if (fed == Served::kDone) return true;
    Ref data;
    if (fed == Served::kUnusual) data = Ref::steal(PyBytes_FromStringAndSize(buffer, size));
    return (data && call_protocol(Name::data_received, data.get())) || data_failed();
}

bool Stream::data_failed() {
    constexpr const char* message = "Fatal error: protocol.data_received() call failed.";
    return device().pipe ? report(message) : callback_failed(message);
}

// The exception that is set ends the connection. What the callback wrote before it raised is sent:
// on asyncio's own transports it had been when write() returned.
bool Stream::callback_failed(const char* message) {
    {
        py::ErrorGuard guard;
        if (!flush()) loop()->put_aside(object());
    }
    return fatal(message);
}

bool Stream::read_into_protocol() {
    Py_buffer view;
    {
        Ref wanted = Ref::steal(PyLong_FromLong(-1));
        Ref buffer;
        if (wanted) buffer = call_protocol(Name::get_buffer, wanted.get());
        if (!buffer || PyObject_GetBuffer(buffer.get(), &view, PyBUF_WRITABLE) < 0)
            return callback_failed("Fatal error: protocol.get_buffer() call failed.");
    }
    if (view.len == 0 || !reading()) {
        bool wanted = reading();
        PyBuffer_Release(&view);
        if (!wanted) return true;
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        return fatal("Fatal error: protocol.get_buffer() call failed.");
    }
    ssize_t size = device().read(fd(), view.buf, static_cast<size_t>(view.len));
    int number = errno;
    PyBuffer_Release(&view);
    errno = number;
    if (size <= 0) return read_nothing(size);
    Ref count = Ref::steal(PyLong_FromSsize_t(size));
    if (count && call_protocol(Name::buffer_updated, count.get())) return true;
    return callback_failed("Fatal error: protocol.buffer_updated() call failed.");
}

bool Stream::read_for_sink() {
    char* buffer = loop()->read_buffer();
    ssize_t size = buffer ? device().read(fd(), buffer, kReadSize) : 0;
    if (buffer && size <= 0) return read_nothing(size);
    Ref keep = protocol_;
    py::InContext entered(context_.get());
    if (buffer && entered && sink_->sink->take(sink_, buffer, static_cast<size_t>(size)))
        return true;
    return callback_failed("Fatal error: protocol.buffer_updated() call failed.");
}

// The end of the stream (0), or an error (-1 and errno).
bool Stream::read_nothing(ssize_t result) {
    if (result < 0) return again(errno) || read_failed(errno);
    note("received EOF");
    // asyncio's pipes are closed by it, whatever the protocol does when it is told.
    if (device().pipe && !shut_down()) return false;
    constexpr const char* message = "Fatal error: protocol.eof_received() call failed.";
    Ref answer = call_protocol(Name::eof_received);
    if (device().pipe) return answer || report(message);
    int keep_open = answer ? PyObject_IsTrue(answer.get()) : -1;
    if (keep_open < 0) return callback_failed(message);
    if (!keep_open) return shut_down();
    if (!lost_) watch(watched() & ~EV_READ);
    return true;
}

// asyncio's pipes report it, but for a terminal's other end that is gone.
bool Stream::read_failed(int number) {
    if (!device().pipe || number == EIO) return fatal(number, device().read_failed);
    (void)py::raise_errno(number);
    Ref error = Ref::steal(py::take_raised());
    py::put_raised(error.new_ref());
    return report(device().read_failed) && force_close(error.get());
}

// Writing.

bool Stream::may_write(const char* function) {
    if (eof_) return py::raise(PyExc_RuntimeError, "Cannot call %s() after write_eof()", function);
    if (empty_waiter_)
        return py::raise(PyExc_RuntimeError, "unable to %s; sendfile is in progress", function);
    return true;
}

Ref Stream::write(py::Args args) {
    PyObject* data = py::bind_one("write", "data", args);
    if (!data) return {};
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data))
        return py::raise(
            PyExc_TypeError,
            "data argument must be a bytes, bytearray, or memoryview object, not '%.200s'",
            Py_TYPE(data)->tp_name);
    if (!may_write("write")) return {};
    if (!append(data)) return {};
    return appended() ? Ref::none() : Ref();
}

Ref Stream::writelines(py::Args args) {
    PyObject* list = py::bind_one("writelines", "list_of_data", args);
    if (!list) return {};
    if (!may_write("writelines")) return {};
    // asyncio's words for what is wrong are those of what it does with the pieces.
    bool joins = py::kSocketsJoin || device().pipe;
    Ref pieces = Ref::steal(joins ? PySequence_Fast(list, "can only join an iterable")
                            : PyList_CheckExact(list) ? Py_NewRef(list)
                                                      : PySequence_List(list));
    if (!pieces) return {};
    // All or none: what cannot be sent is found before anything is.
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(pieces.get()); ++i) {
        PyObject* piece = PySequence_Fast_GET_ITEM(pieces.get(), i);
        if (PyObject_CheckBuffer(piece)) {
            if (!gives_bytes(piece)) return {};
            continue;
        }
        const char* type = Py_TYPE(piece)->tp_name;
        if (joins)
            return py::raise(PyExc_TypeError,
                             "sequence item %zd: expected a bytes-like object, %.80s found", i,
                             type);
        return py::raise(PyExc_TypeError,
                         "memoryview: a bytes-like object is required, not '%.200s'", type);
    }
    if (!may_write("writelines")) return {};  // a piece may have done anything
    if (apart_) {
        Ref nothing = Ref::steal(PyBytes_FromStringAndSize(nullptr, 0)), all;
        if (nothing)
            all = Ref::steal(PyObject_CallMethod(nothing.get(), "join", "O", pieces.get()));
        return all && append(all.get()) && appended() ? Ref::none() : Ref();
    }
    unsigned lost = lost_;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(pieces.get()); ++i) {
        Ref piece = Ref::borrow(PySequence_Fast_GET_ITEM(pieces.get(), i));
        if (!append(piece.get())) return {};
        if (lost_ != lost) break;  // one warning is enough for all
        if (queue_.size() >= kFlushAt && !blocked() && !send()) return {};
    }
    return appended() ? Ref::none() : Ref();
}

bool Stream::too_late() const { return lost_ || (device().pipe && closing_); }

bool Stream::note_late_write() { return !lost_ || Flow::note_late_write(device().late_write); }

// Queues what the object holds: itself, if nobody can change it, else a copy of what the kernel
// does not take at once.
bool Stream::append(PyObject* data) {
    if (PyBytes_CheckExact(data)) {
        if (!PyBytes_GET_SIZE(data)) return true;
        if (too_late()) return note_late_write();
        return queue_.push(data);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return false;
    size_t size = static_cast<size_t>(view.len), sent = 0;
    bool done = true;
    if (size && too_late()) {
        done = note_late_write();
    } else if (size) {
        bool direct = size >= kFlushAt && queue_.empty() && !blocked();
        if (direct) done = send_now(static_cast<char*>(view.buf), size, sent);
        if (done && !lost_ && sent < size) {
            Ref rest = Ref::steal(PyBytes_FromStringAndSize(static_cast<char*>(view.buf) + sent,
                                                            static_cast<Py_ssize_t>(size - sent)));
            done = rest && queue_.push(rest.get());
            if (done && direct) wait_to_write();
        }
    }
    PyBuffer_Release(&view);
    return done;
}

// Something was queued: it leaves now or at the turn's end.
bool Stream::appended() {
    if (queue_.empty() || lost_) return true;
    if (!blocked()) {
        size_t size = queue_.size();
        bool little = size < kFlushAt && size <= high();
        if (loop()->in_turn() && (little || size <= certain())) {
            loop()->transports().flush_later(this);
            return true;
        }
        if (!send() || !settle()) return false;
    }
    return pause_protocol(queue_.size());
}

// How much may be sent now.
size_t Stream::allowance() {
    if (!loop()->in_turn() || loop()->forking()) return SIZE_MAX;
    if (turn_ != loop()->turn_number()) {
        turn_ = loop()->turn_number();
        left_ = kPerTurn;
    }
    return left_;
}

// How much the kernel will take in this turn without any doubt: that is as good as sent, and waits
// for what is written after it. Half of the room, for the kernel counts what it keeps around the
// bytes, too.
size_t Stream::certain() {
    if (!device().room) return 0;
    size_t most = allowance();
    if (asked_ != loop()->turn_number()) {
        asked_ = loop()->turn_number();
        room_ = std::min<size_t>(device().room(fd()) / 2, kPerTurn);
    }
    return std::min<size_t>(most, room_);
}

// One system call, for no more than is allowed. What the kernel has no room for is not `sent`.
bool Stream::hand_over(const iovec* vectors, int count, size_t& sent) {
    loop()->poll_next();
    ssize_t result = device().write(fd(), vectors, count);
    if (result < 0 && !again(errno)) return write_failed(errno);
    sent = result < 0 ? 0 : static_cast<size_t>(result);
    left_ -= static_cast<uint32_t>(std::min<size_t>(sent, left_));
    room_ -= static_cast<uint32_t>(std::min<size_t>(sent, room_));
    return true;
}

// Sends what the kernel takes.
bool Stream::send() {
    constexpr int kVectors = 256;
    iovec vectors[kVectors];
    while (!queue_.empty()) {
        size_t bytes = 0, sent = 0;
        size_t most = allowance();
        int count = apart_ ? queue_.peek(vectors, 1, most ? SIZE_MAX : 0, bytes)
                           : queue_.peek(vectors, kVectors, most, bytes);
        if (count && !hand_over(vectors, count, sent)) return false;
        if (lost_) return true;
        queue_.consume(sent);
        if (!count || sent < bytes) {
            wait_to_write();
            return true;
        }
    }
    return true;
}

bool Stream::send_now(const char* data, size_t size, size_t& sent) {
    const size_t most = allowance();
    iovec vector = {const_cast<char*>(data), apart_ && most ? size : std::min(size, most)};
    return !vector.iov_len || hand_over(&vector, 1, sent);
}

bool Stream::write_failed(int number) {
    (void)py::raise_errno(number);
    {
        Ref error = Ref::steal(py::take_raised());
        end_empty_waiter(Name::set_exception, error.get());
        py::put_raised(error.release());
    }
    return fatal(device().write_failed);
}

// After sending: all is done, or the rest waits for the kernel.
bool Stream::settle() {
    if (lost_ || !queue_.empty()) return true;
    watch(watched() & ~EV_WRITE);
    end_empty_waiter(Name::set_result, Py_None);
    if (closing_) return lose(nullptr);
    if (!eof_ || shut_write()) return true;
    return fatal(errno, device().write_failed);
}

bool Stream::shut_write() {
    loop()->poll_next();
    return device().shut(fd()) == 0;
}

bool Stream::flush() {
    if (sink_ && !sink_->sink->flush(sink_, false)) return false;
    if (lost_ || blocked() || queue_.empty()) return true;
    if (!send() || !settle()) return false;
    return sink_ || loop()->forking() || pause_protocol(queue_.size());
}

bool Stream::send_all() {
    if (lost_) return true;
    if (sink_ && !sink_->sink->flush(sink_, true)) return false;
    if (lost_ || queue_.empty()) return true;
    if (!send()) return false;
    if (!lost_) wait_to_write();  // what follows from that comes with the next event
    return true;
}

bool Stream::takes() {
    if (lost_ || blocked()) return false;
    if (allowance() <= kPerTurn - kSunkPerTurn) wait_to_write();
    return !blocked();
}

bool Stream::put(const char* data, size_t size, bool later) {
    if (lost_ || !size) return true;
    size_t sent = 0;
    bool first = queue_.empty() && !blocked(), wait = later && loop()->in_turn();
    if (first && !wait) {
        iovec vector = {const_cast<char*>(data), size};
        if (!hand_over(&vector, 1, sent)) return false;
        if (lost_ || sent == size) return true;
    }
    Ref rest =
        Ref::steal(PyBytes_FromStringAndSize(data + sent, static_cast<Py_ssize_t>(size - sent)));
    if (!rest || !queue_.push(rest.get())) return fatal(device().write_failed);
    if (blocked()) return true;
    if (wait) return loop()->transports().flush_later(this), true;
    if (!first) return send();
    wait_to_write();
    return true;
}

// The connection has broken off: what the kernel held is gone, and its room is good for nothing.
static bool broken(int fd) {
    pollfd polled = {fd, 0, 0};
    return poll(&polled, 1, 0) > 0 && polled.revents & (POLLERR | POLLHUP);
}

bool Stream::write_ready() {
    if (sink_) {
        if (!send() || !settle()) return false;
        if (lost_ || !queue_.empty()) return true;
        py::InContext entered(context_.get());
        return entered && sink_->sink->flush(sink_, false);
    }
    if (protocol_paused() && queue_.size() <= certain() && !broken(fd())) {
        watch(watched() & ~EV_WRITE);
        loop()->transports().flush_later(this);
        return resume_protocol(0);
    }
    if (!send()) return false;
    // What resume_writing() writes does not wait for the kernel, if nothing else does.
    if (!lost_ && queue_.empty()) watch(watched() & ~EV_WRITE);
    return (lost_ || resume_protocol(queue_.size())) && settle();
}

Ref Stream::write_eof() {
    if (closing_ || eof_) return Ref::none();
    eof_ = true;
    if (queue_.empty() && !shut_write()) return py::raise_errno(errno);
    return Ref::none();
}

Ref Stream::set_write_buffer_limits(py::Args args) {
    return set_limits(args) && appended() ? Ref::none() : Ref();
}

// What waits for the turn's end is sent first: only what the kernel refused counts.
Ref Stream::get_write_buffer_size() {
    if (!flush()) return {};
    return Ref::steal(PyLong_FromSize_t(queue_.size()));
}

// Closing.

bool Stream::shut_down() {
    if (closing_) return true;
    if (sink_ && !sink_->sink->flush(sink_, true)) return false;
    if (closing_) return true;
    closing_ = true;
    watch(watched() & ~EV_READ);
    if (!blocked() && !queue_.empty() && !send()) return false;
    return lost_ || !queue_.empty() || lose(nullptr);
}

Ref Stream::close() { return shut_down() ? Ref::none() : Ref(); }

void Stream::gone() {
    sink_ = nullptr;
    if (!empty_waiter_) return;
    Ref error = Ref::steal(
        PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer"));
    if (error) end_empty_waiter(Name::set_exception, error.get());
}

// sendfile() has the descriptor for itself, once all that was written before is sent.

Ref Stream::make_empty_waiter() {
    if (empty_waiter_) return py::raise(PyExc_RuntimeError, "Empty waiter is already set");
    if (!loop_) return py::raise(PyExc_RuntimeError, "Transport is closing");
    if (!flush()) return {};
    empty_waiter_ = py::call_method(loop_.get(), name(Name::create_future));
    if (!empty_waiter_) return {};
    lends = true;
    Ref waiter = empty_waiter_;
    if (queue_.empty()) end_empty_waiter(Name::set_result, Py_None);
    return waiter;
}

Ref Stream::reset_empty_waiter() {
    empty_waiter_ = Ref();
    lends = false;
    return Ref::none();
}

void Stream::end_empty_waiter(Name method, PyObject* value) {
    if (!empty_waiter_) return;
    if (!State::of(*loop()).settle(empty_waiter_.get(), method, value)) loop()->put_aside(object());
}

Ref Stream::repr() { return describe(queue_.size()); }

PyMethodDef Stream::kMethods[] = {
    py::fast<&Stream::set_protocol>("set_protocol", R"(set_protocol($self, protocol)
--

Hand the connection over to another protocol. asyncio: BaseTransport.set_protocol.)"),
    py::noargs<&Stream::close>("close", R"(close($self, /)
--

Stop reading, send what is written, then close. asyncio: BaseTransport.close.)"),
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef Stream::kWriteMethods[] = {
    py::fast<&Stream::write>("write", R"(write($self, data)
--

Send bytes: at the end of this turn of the loop, with whatever else is written in it.

data: bytes, bytearray or memoryview; what can change is copied. Raises TypeError for anything else,
RuntimeError after a socket's write_eof(). asyncio: WriteTransport.write.)"),
    py::fast<&Stream::writelines>("writelines", R"(writelines($self, list_of_data)
--

Send each of an iterable of bytes. asyncio: WriteTransport.writelines.)"),
    py::noargs<&Stream::can_write_eof>("can_write_eof", R"(can_write_eof($self, /)
--

True. asyncio: WriteTransport.can_write_eof.)"),
    py::fast<&Stream::set_write_buffer_limits>(
        "set_write_buffer_limits", R"(set_write_buffer_limits($self, high=None, low=None)
--

How many unsent bytes pause the protocol, and how few resume it.

Raises ValueError unless high >= low >= 0. asyncio: WriteTransport.set_write_buffer_limits.)"),
    py::noargs<&Stream::get_write_buffer_size>("get_write_buffer_size",
                                               R"(get_write_buffer_size($self, /)
--

How many written bytes the kernel has refused so far. asyncio: WriteTransport.get_write_buffer_size.)"),
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace pyev::net
