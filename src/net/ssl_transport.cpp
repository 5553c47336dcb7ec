// The transport of a protocol that speaks through TLS.
#include "net/ssl_transport.hpp"

#include <algorithm>
#include <cstring>

#include "py/call.hpp"
#include "py/context.hpp"

namespace pyev::net {

using py::Ref;

// The most that a record holds; TLS's own number.
static constexpr size_t kRecord = 16 * 1024;

// So much is encrypted between two system calls.
static constexpr size_t kAtOnce = 128 * 1024;
// Up to so many bytes of records are read into the stack first; more go straight into an object of
// this size at most, which still is in the processor's cache when the protocol gets it.
static constexpr size_t kSmall = 4 * 1024;
static constexpr size_t kMost = 128 * 1024;

// What the peer had under way when close() was called is dropped, up to so many bytes: then it is
// sending more. asyncio's own protocol holds as much.
static constexpr size_t kLinger = 256 * 1024;

// asyncio's initial water marks.
static constexpr size_t kWriteHigh = 512 * 1024, kReadHigh = 256 * 1024;

class SslTransport::Output {
 public:
    explicit Output(aio::LoopBase* loop) : loop_(loop) { bytes.swap(loop->spare()); }
    Output(const Output&) = delete;
    ~Output() {
        bytes.reset(kKept);
        bytes.swap(loop_->spare());
    }

    TlsEngine::Output bytes;

 private:
    static constexpr size_t kKept = 2 * kAtOnce;

    aio::LoopBase* loop_;
};

const aio::Runnable::Table SslTransport::kTable = {run, flush, flush, [](Runnable*) {}};
const Sink::Table SslTransport::kSink = {take, flush};

SslTransport::SslTransport()
    : Runnable(&kTable),
      Sink(&kSink),
      writing_{kWriteHigh, kWriteHigh / 4},
      reading_{kReadHigh, kReadHigh / 4} {}

SslTransport::~SslTransport() {
    head()->extra = Ref();
    head()->dict = Ref();
}

Ref SslTransport::make(State& state, const Parts& parts) {
    if (parts.loop->closed()) return py::raise(PyExc_RuntimeError, "Event loop is closed");
    auto* type = reinterpret_cast<PyTypeObject*>(state.ssl_transport.get());
    Ref self = Ref::steal(py::Slots<SslTransport>::create(type, nullptr, nullptr));
    if (!self) return {};
    auto* value = py::value_of<SslTransport>(self.get());
    value->loop_ = Ref::borrow(parts.loop->object());
    value->context_ =
        parts.context ? Ref::borrow(parts.context) : Ref::steal(PyContext_CopyCurrent());
    value->sslcontext_ = Ref::borrow(parts.sslcontext);
    value->waiter_ = Ref::borrow(parts.waiter);
    value->handshake_timeout_ = Ref::borrow(parts.handshake_timeout);
    value->shutdown_timeout_ = Ref::borrow(parts.shutdown_timeout);
    value->told_ = parts.makes_connection ? Told::kNothing : Told::kMade;
    value->accepted_ = parts.makes_connection && !parts.waiter;
    value->engine_ = TlsEngine::make(state, parts.sslcontext, parts.server_side,
                                     parts.server_hostname, value->ssl_object_);
    if (!value->context_ || !value->engine_ || !value->learn(parts.protocol)) return {};
    return self;
}

Sink* SslTransport::sink_of(State& state, PyObject* protocol) {
    bool one = Py_IS_TYPE(protocol, reinterpret_cast<PyTypeObject*>(state.ssl_transport.get()));
    return one ? py::value_of<SslTransport>(protocol) : nullptr;
}

bool SslTransport::enter() const {
    return engine_ || py::raise(PyExc_RuntimeError, "this transport has been torn down");
}

bool SslTransport::learn(PyObject* protocol) {
    int buffered = PyObject_IsInstance(protocol, State::of(*loop()).buffered_protocol.get());
    if (buffered < 0) return false;
    buffered_ = buffered > 0;
    Streams& streams = State::of(*loop()).streams;
    feeds_ = streams.feeds(protocol);
    if (feeds_ && !loop()->debug() && !streams.adopt(protocol)) return false;
    protocol_ = Ref::borrow(protocol);
    return true;
}

Ref SslTransport::set_protocol(py::Args args) {
    PyObject* protocol = py::bind_one("set_protocol", "protocol", args);
    return protocol && learn(protocol) ? Ref::none() : Ref();
}

void SslTransport::stop_for_clear() {
    delete std::exchange(engine_, nullptr);
    stage_ = Stage::kUnwrapped;
}

void SslTransport::finalize() {
    py::ErrorGuard guard;
    Ref description = py::finalizing() ? Ref() : repr();
    if (description &&
        PyErr_ResourceWarning(object(), 1, "unclosed transport %U", description.get()) < 0)
        PyErr_WriteUnraisable(object());
}

// Time.

bool SslTransport::start_timer(PyObject* seconds) {
    Ref callback = Ref::steal(PyObject_GetAttr(object(), name(Name::_time_out)));
    if (callback)
        timer_ = py::call_method(loop_.get(), name(Name::call_later), seconds, callback.get());
    return callback && timer_;
}

void SslTransport::stop_timer() {
    Ref timer = std::move(timer_);
    if (timer && !py::call_method(timer.get(), name(Name::cancel))) loop()->put_aside(object());
}

Ref SslTransport::time_out() {
    timer_ = Ref();
    if (stage_ == Stage::kHandshake) {
        PyErr_Format(PyExc_ConnectionAbortedError,
                     "SSL handshake is taking longer than %S seconds: aborting the connection",
                     handshake_timeout_.get());
        return fatal("Fatal error on transport") ? Ref::none() : Ref();
    }
    if (!connected()) return Ref::none();
    Ref error =
        Ref::steal(PyObject_CallFunction(PyExc_TimeoutError, "s", "SSL shutdown timed out"));
    return error && cut(error.get()) ? Ref::none() : Ref();
}

// Whoever waits for the handshake is told: set_result with the transport, or with None when it was
// closed before.
bool SslTransport::wake(Name method, PyObject* value) {
    Ref waiter = std::move(waiter_);
    if (!waiter || State::of(*loop()).settle(waiter.get(), method, value)) return true;
    waiter_ = std::move(waiter);  // for the end of the connection
    return false;
}

// Called by the transport below.

Ref SslTransport::connection_made(PyObject* transport) {
    if (lower_) return py::raise(PyExc_RuntimeError, "this transport has a connection already");
    if (told_ == Told::kLost) return Ref::none();  // start_tls(), of what was being closed
    State& state = State::of(*loop());
    if (Py_IS_TYPE(transport, reinterpret_cast<PyTypeObject*>(state.socket_transport.get())))
        stream_ = py::value_of<Stream>(transport);
    lower_ = Ref::borrow(transport);
    stage_ = Stage::kHandshake;
    if (!start_timer(handshake_timeout_.get())) return {};
    return receive(nullptr, 0) ? Ref::none() : Ref();
}

bool SslTransport::take(Sink* sink, const char* data, size_t size) {
    return static_cast<SslTransport*>(sink)->receive(data, size);
}

Ref SslTransport::data_received(PyObject* data) {
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return {};
    bool done = receive(static_cast<char*>(view.buf), static_cast<size_t>(view.len));
    PyBuffer_Release(&view);
    return done ? Ref::none() : Ref();
}

Ref SslTransport::eof_received() {
    ended_ = true;
    if (receiving_) return ends_ = true, Ref::borrow(Py_True);
    const bool shaking = stage_ == Stage::kHandshake;
    if (!note_end()) return {};
    if (shaking) return Ref::none();
    // What is still to be read or sent keeps the transport below open.
    return Ref::borrow(connected() && (paused_ || !queue_.empty()) ? Py_True : Py_None);
}

Ref SslTransport::connection_lost(PyObject* error) {
    if (receiving_) return lost_ = Ref::borrow(error), Ref::none();
    bool shaking = stage_ == Stage::kHandshake;
    stage_ = Stage::kUnwrapped;
    queue_.clear();
    kept_ = Ref();
    stream_ = nullptr;
    closing_ = true;
    ++late_;
    stop_timer();
    if (told_ == Told::kMade || told_ == Told::kEnd) {
        told_ = Told::kLost;
        if (error != Py_None) reason_ = Ref::borrow(error);
        if (!loop()->push(this, kLost)) return {};
    } else if (told_ == Told::kNothing) {
        protocol_ = Ref();
    }
    Ref reason = Ref::borrow(error == Py_None ? nullptr : error);
    if (shaking && reason && !refuse(reason.get())) return {};
    bool woken =
        wake(reason ? Name::set_exception : Name::set_result, reason ? reason.get() : Py_None);
    return woken ? Ref::none() : Ref();
}

Ref SslTransport::pause_writing() {
    refused_ = true;
    return Ref::none();
}

Ref SslTransport::resume_writing() {
    refused_ = false;
    return send() ? Ref::none() : Ref();
}

// What is called later, by the ready ring and at the end of a turn.

bool SslTransport::run(Runnable* runnable, unsigned what) {
    auto* self = static_cast<SslTransport*>(runnable);
    if (what == kClose) {
        Ref closed = self->stream_  ? self->stream_->close()
                     : self->lower_ ? py::call_method(self->lower_.get(), self->name(Name::close))
                                    : Ref::none();
        return closed || self->report("Exception in a transport's close()");
    }
    py::InContext entered(self->context_.get());
    if (what == kResume) return entered && self->resume();
    Ref error = self->reason_ ? std::move(self->reason_) : Ref::none();
    Ref protocol = std::move(self->protocol_);
    if (entered && py::call_method(protocol.get(), self->name(Name::connection_lost), error.get()))
        return true;
    return self->report("Fatal error: protocol.connection_lost() call failed.");
}

// The protocol, which may be told to go on, may let go of it.
bool SslTransport::flush(Sink* sink, bool all) {
    auto* self = static_cast<SslTransport*>(sink);
    Ref keep = Ref::borrow(self->object());
    return self->send(all, self->context_.get());
}

bool SslTransport::flush(Runnable* runnable) {
    auto* self = static_cast<SslTransport*>(runnable);
    return self->send(false, self->context_.get());
}

// Reading.

// What the transport below brings. One that hands over at once what it is given may call while we
// write to it, in the middle of this: then it is for the call that is under way.
bool SslTransport::receive(const char* data, size_t size) {
    Ref self = Ref::borrow(object());  // the protocol may let go of it
    if (receiving_) return comes_ = true, keep(data, size);
    receiving_ = true;
    bool done;
    do {
        comes_ = false;
        done = pass_on(data, size);
        data = nullptr, size = 0;
    } while (done && comes_ && connected());
    receiving_ = false;
    if (std::exchange(ends_, false) && done && connected()) done = note_end();
    if (!lost_) return done;
    py::ErrorGuard guard;
    Ref lost = std::move(lost_);
    return connection_lost(lost.get()) && done;
}

// Behind what is kept already. All or nothing.
bool SslTransport::keep(const char* data, size_t size) {
    Ref more = Ref::steal(PyBytes_FromStringAndSize(data, static_cast<Py_ssize_t>(size)));
    if (!more) return false;
    if (!kept_) return kept_ = std::move(more), true;
    PyObject* joined = kept_.new_ref();
    PyBytes_Concat(&joined, more.get());
    if (joined) kept_ = Ref::steal(joined);
    return joined;
}

bool SslTransport::pass_on(const char* data, size_t size) {
    if (kept_ && size && !keep(data, size)) return false;
    Ref all = std::move(kept_);
    if (all) {
        data = PyBytes_AS_STRING(all.get());
        size = static_cast<size_t>(PyBytes_GET_SIZE(all.get()));
    }
    if (!engine_->feed(data, size)) return false;
    bool done = advance();
    if (!engine_) return done;
    size_t left = connected() ? engine_->left() : 0;
    if (done && !left) return engine_->feed(nullptr, 0);
    const bool resumes = !done && py::ends_program();
    py::ErrorGuard guard;
    if (left) {
        Ref came = std::move(kept_);
        bool kept = keep(data + size - left, left);
        if (came && kept)
            kept = keep(PyBytes_AS_STRING(came.get()),
                        static_cast<size_t>(PyBytes_GET_SIZE(came.get())));
        done = done && kept;
    }
    // A KeyboardInterrupt leaves the connection as it is: the rest comes when the loop runs again.
    if (resumes && connected() && !resuming_) resuming_ = loop()->push(this, kResume);
    return engine_->feed(nullptr, 0) && done;
}

bool SslTransport::advance() {
    bool closed = stage_ > Stage::kWrapped;
    if (stage_ == Stage::kHandshake && !handshake()) return false;
    if (stage_ == Stage::kWrapped && !deliver()) return false;
    if (stage_ <= Stage::kWrapped) return true;
    // Behind the data that the protocol closed at, the peer's end may have come already.
    return (!closed && !engine_->left() && !engine_->pending()) || discard();
}

bool SslTransport::handshake() {
    Result result;
    {
        Output output(loop());
        result = engine_->handshake(output.bytes);
        Ref error = Ref::steal(py::take_raised());
        // The last of the handshake leaves with what the protocol writes first.
        if (!put(output.bytes, result == Result::kDone)) return false;
        if (error) py::put_raised(error.release());
    }
    if (result == Result::kStarved) return true;
    if (result == Result::kEnd) PyErr_SetNone(PyExc_ConnectionResetError);
    if (result != Result::kDone) return handshake_failed();
    stop_timer();
    stage_ = Stage::kWrapped;
    shaken_ = true;
    if (told_ == Told::kNothing) {
        told_ = Told::kMade;
        Ref protocol = protocol_;
        if (!py::call_method(protocol.get(), name(Name::connection_made), object()))
            return send_before_end(), false;
    }
    return wake(Name::set_result, object());
}

// The exception that is set ends it.
bool SslTransport::handshake_failed() {
    if (py::ends_program()) return false;
    Ref error = Ref::steal(py::take_raised());
    stop_timer();
    bool distrusted =
        PyErr_GivenExceptionMatches(error.get(), State::of(*loop()).tls.certificate_error.get());
    py::put_raised(error.new_ref());
    if (!fatal(distrusted ? "SSL handshake failed on verifying the certificate"
                          : "SSL handshake failed") ||
        !refuse(error.get()))
        return false;
    return wake(Name::set_exception, error.get());
}

// A server tells which connection it could not welcome, in debug mode, once.
bool SslTransport::refuse(PyObject* error) {
    bool told = !std::exchange(accepted_, false) || !loop()->debug();
    py::Handling handling(error);
    return told || py::call_method(loop_.get(), name(Name::_welcome_failed), error);
}

// Gives the protocol what can be read.
bool SslTransport::deliver() {
    Result result = Result::kDone;
    while (result == Result::kDone && stage_ == Stage::kWrapped && !paused_ &&
           (engine_->left() || engine_->pending())) {
        if (!(buffered_ ? deliver_into_protocol(result) : deliver_bytes(result))) return false;
    }
    // A handshake in between may have kept it back.
    return queue_.empty() || send();
}

// Reads what there is and has room; with kEnd or kFailed `size` is what came before that.
TlsEngine::Result SslTransport::fill(char* into, size_t room, size_t& size,
                                     TlsEngine::Output& output) {
    Result result;
    size = 0;
    do {
        size_t count;
        result = engine_->read(into + size, room - size, count, output);
        size += count;
    } while (result == Result::kDone && size < room && (engine_->left() || engine_->pending()));
    return result;
}

// One read's worth of bytes.
TlsEngine::Result SslTransport::read_bytes(TlsEngine::Output& output, Ref& data) {
    size_t size;
    if (engine_->left() <= kSmall) {
        char small[kRecord];
        Result result = fill(small, sizeof small, size, output);
        if (!size) return result;
        py::ErrorGuard guard;
        data = Ref::steal(PyBytes_FromStringAndSize(small, static_cast<Py_ssize_t>(size)));
        return data ? result : Result::kFailed;
    }
    size_t room = std::min(engine_->left() + kRecord, kMost);
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(room));
    if (!bytes) return Result::kFailed;
    Result result = fill(PyBytes_AS_STRING(bytes), room, size, output);
    py::ErrorGuard guard;
    (void)_PyBytes_Resize(&bytes, static_cast<Py_ssize_t>(size));
    data = Ref::steal(bytes);
    if (!data) return Result::kFailed;
    if (!size) data = Ref();
    return result;
}

// Reads as `take` does, sends what that brings about, and then has `tell` tell the protocol of it;
// `tell` comes before what the end of the read means.
template <class Take, class Tell>
bool SslTransport::read(Result& result, Take take, Tell tell) {
    Ref error;
    {
        Output output(loop());
        result = take(output.bytes);
        error = Ref::steal(py::take_raised());
        if (!put(output.bytes)) return false;
    }
    if (!tell()) return callback_failed("Fatal error on SSL protocol");
    if (result == Result::kEnd) {
        notified_ = true;
        return tell_end() && begin_closing();
    }
    if (result != Result::kFailed) return true;
    py::put_raised(error.release());
    return fatal("Fatal error on SSL protocol");
}

// A stream's reader gets it without a Python frame, unless it is out of the ordinary.
bool SslTransport::tell_data(PyObject* protocol, PyObject* data) {
    Served fed = Served::kUnusual;
    if (feeds_)
        fed = State::of(*loop()).streams.feed(protocol, PyBytes_AS_STRING(data),
                                              static_cast<size_t>(PyBytes_GET_SIZE(data)));
    return fed == Served::kUnusual
               ? static_cast<bool>(py::call_method(protocol, name(Name::data_received), data))
               : fed == Served::kDone;
}

bool SslTransport::deliver_bytes(Result& result) {
    Ref data, protocol = protocol_;
    return read(
        result, [&](TlsEngine::Output& output) { return read_bytes(output, data); },
        [&] { return !data || tell_data(protocol.get(), data.get()); });
}

bool SslTransport::deliver_into_protocol(Result& result) {
    Ref protocol = protocol_, hint = Ref::steal(PyLong_FromSize_t(engine_->left())), buffer;
    Py_buffer view;
    if (hint) buffer = py::call_method(protocol.get(), name(Name::get_buffer), hint.get());
    if (!buffer || PyObject_GetBuffer(buffer.get(), &view, PyBUF_WRITABLE) < 0)
        return callback_failed("Fatal error on SSL protocol");
    size_t size = 0, room = static_cast<size_t>(view.len);
    bool wanted = stage_ == Stage::kWrapped && !paused_;
    if (!wanted || !room) {
        PyBuffer_Release(&view);
        if (!wanted) return true;
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        return fatal("Fatal error on SSL protocol");
    }
    return read(
        result,
        [&](TlsEngine::Output& output) {
            Result found = fill(static_cast<char*>(view.buf), room, size, output);
            py::ErrorGuard guard;
            PyBuffer_Release(&view);
            return found;
        },
        [&] {
            Ref count = Ref::steal(PyLong_FromSize_t(size));
            return !size || (count && py::call_method(protocol.get(), name(Name::buffer_updated),
                                                      count.get()));
        });
}

Ref SslTransport::pause_reading() {
    if (paused_) return Ref::none();
    paused_ = true;
    if (stage_ != Stage::kWrapped) return Ref::none();
    return stream_ ? stream_->pause_reading()
                   : py::call_method(lower_.get(), name(Name::pause_reading));
}

// What is here already comes in the next turn.
Ref SslTransport::resume_reading() {
    if (!paused_) return Ref::none();
    paused_ = false;
    if (!connected() || resuming_) return Ref::none();
    resuming_ = loop()->push(this, kResume);
    return resuming_ ? Ref::none() : Ref();
}

bool SslTransport::resume() {
    resuming_ = false;
    if (paused_ || !connected()) return true;
    if (!receive(nullptr, 0)) return fatal("Fatal error on SSL protocol");
    if (paused_ || !connected()) return true;
    return ended_ ? end() : read_on();
}

// Has the transport below read again.
bool SslTransport::read_on() {
    Ref done = stream_ ? stream_->resume_reading()
                       : py::call_method(lower_.get(), name(Name::resume_reading));
    return done || fatal("Fatal error on SSL protocol");
}

// Writing.

Ref SslTransport::write(py::Args args) {
    PyObject* data = py::bind_one("write", "data", args);
    if (!data) return {};
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data))
        return py::raise(PyExc_TypeError, "data: expecting a bytes-like instance, got %.200s",
                         Py_TYPE(data)->tp_name);
    return append(data) && appended() ? Ref::none() : Ref();
}

Ref SslTransport::writelines(py::Args args) {
    PyObject* list = py::bind_one("writelines", "list_of_data", args);
    if (!list) return {};
    Ref pieces = Ref::steal(PySequence_Fast(list, "writelines() takes an iterable of bytes"));
    if (!pieces) return {};
    // All or none: what cannot be sent is found before anything is.
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(pieces.get()); ++i) {
        PyObject* piece = PySequence_Fast_GET_ITEM(pieces.get(), i);
        if (!PyObject_CheckBuffer(piece))
            return py::raise(PyExc_TypeError, "a bytes-like object is required, not '%.200s'",
                             Py_TYPE(piece)->tp_name);
        if (!gives_bytes(piece)) return {};
    }
    unsigned late = late_;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(pieces.get()); ++i) {
        Ref piece = Ref::borrow(PySequence_Fast_GET_ITEM(pieces.get(), i));
        if (!append(piece.get())) return {};
        if (late_ != late) break;  // one warning is enough for all
    }
    return appended() ? Ref::none() : Ref();
}

bool SslTransport::note_late_write(PyObject* data) {
    int some = PyObject_IsTrue(data);
    if (some <= 0) return some == 0;
    if (late_++ < Flow::kLateWrites) return true;
    return Flow::warn("SSL connection is closed");
}

// Queues what the object holds: itself, if nobody can change it.
bool SslTransport::append(PyObject* data) {
    bool open = stage_ == Stage::kWrapped || stage_ == Stage::kHandshake ||
                (stage_ == Stage::kUnwrapped && !lower_ && !closing_);
    if (!open) return note_late_write(data);
    if (PyBytes_CheckExact(data)) return queue_.push(data);
    if (!gives_bytes(data)) return false;
    Ref copy = Ref::steal(PyBytes_FromObject(data));
    return copy && queue_.push(copy.get());
}

// Something was queued: it leaves now or at the turn's end.
bool SslTransport::appended() {
    if (queue_.empty() || stage_ != Stage::kWrapped) return true;
    size_t size = queue_.size();
    if (size >= Stream::kFlushAt || size >= writing_.high || !loop()->in_turn()) return send();
    loop()->transports().flush_later(this);
    return true;
}

// Encrypts what was written, as far as `most` bytes of it. Small pieces share a record.
TlsEngine::Result SslTransport::encrypt(TlsEngine::Output& output, size_t most) {
    constexpr int kVectors = 64;
    iovec vectors[kVectors];
    char record[kRecord];
    size_t bytes;
    for (size_t done = 0; done < most && !queue_.empty();) {
        int count = queue_.peek(vectors, kVectors, most - done, bytes);
        const char* data = static_cast<char*>(vectors[0].iov_base);
        size_t size = vectors[0].iov_len;
        if (count > 1 && size >= kRecord) size -= size % kRecord;
        if (count > 1 && size < kRecord) {
            size = 0;
            for (int i = 0; i < count && size < kRecord; ++i) {
                size_t piece = std::min(vectors[i].iov_len, kRecord - size);
                std::memcpy(record + size, vectors[i].iov_base, piece);
                size += piece;
            }
            data = record;
        }
        Result result = engine_->write(data, size, output);
        if (result != Result::kDone) return result;
        queue_.consume(size);
        done += size;
    }
    return Result::kDone;
}

bool SslTransport::takes() { return stream_ ? stream_->takes() : lower_ && !refused_; }

// Gives records to the transport below. False: an exception leaves run_forever().
bool SslTransport::put(TlsEngine::Output& output, bool later) {
    bool done = true;
    if (output.empty()) return true;
    if (stream_) {
        done = stream_->put(output.begin(), output.size(), later);
    } else if (lower_) {
        Ref bytes = Ref::steal(
            PyBytes_FromStringAndSize(output.begin(), static_cast<Py_ssize_t>(output.size())));
        done = bytes && py::call_method(lower_.get(), name(Name::write), bytes.get());
        done = done || fatal("Fatal error on SSL protocol");
    }
    output.clear();
    return done;
}

// Sends what the transport below takes, or all there is, for it to keep.
bool SslTransport::send(bool all, PyObject* context) {
    if (stage_ != Stage::kWrapped && stage_ != Stage::kFlushing) return true;
    Result result = Result::kDone;
    while (result == Result::kDone && !queue_.empty() && (all || takes())) {
        Output output(loop());
        result = encrypt(output.bytes, kAtOnce);
        Ref error = Ref::steal(py::take_raised());
        if (!put(output.bytes)) return false;
        if (!error) continue;
        py::put_raised(error.release());
        return fatal("Fatal error on SSL protocol");
    }
    if (!control_writing(context)) return false;
    return stage_ != Stage::kFlushing || !queue_.empty() || loop()->forking() || finish();
}

size_t SslTransport::unsent() { return queue_.size() + (stream_ ? stream_->unsent_size() : 0); }

bool SslTransport::control_writing(PyObject* context) {
    size_t size = unsent();
    bool pauses = !held_back_ && size && size >= writing_.high;
    if (!pauses && (!held_back_ || size > writing_.low)) return true;
    if (loop()->forking()) return true;
    held_back_ = pauses;
    py::InContext entered(context);
    if (!entered) PyErr_Clear();  // none was given, or it is the one already
    Ref protocol = protocol_;
    if (pauses)
        return py::call_method(protocol.get(), name(Name::pause_writing)) ||
               report("protocol.pause_writing() failed");
    return py::call_method(protocol.get(), name(Name::resume_writing)) ||
           report("protocol.resume_writing() failed");
}

Ref SslTransport::set_write_buffer_limits(py::Args args) {
    if (!water_marks("set_write_buffer_limits", args, kWriteHigh, writing_.high, writing_.low))
        return {};
    return !connected() || control_writing() ? Ref::none() : Ref();
}

Ref SslTransport::get_write_buffer_limits() { return marks(writing_.low, writing_.high); }

// What waits for the turn's end is sent first: only what could not be counts.
Ref SslTransport::get_write_buffer_size() {
    return send() ? Ref::steal(PyLong_FromSize_t(unsent())) : Ref();
}

Ref SslTransport::set_read_buffer_limits(py::Args args) {
    return water_marks("set_read_buffer_limits", args, kReadHigh, reading_.high, reading_.low)
               ? Ref::none()
               : Ref();
}

Ref SslTransport::get_read_buffer_limits() { return marks(reading_.low, reading_.high); }

Ref SslTransport::get_read_buffer_size() {
    return Ref::steal(PyLong_FromSsize_t(kept_ ? PyBytes_GET_SIZE(kept_.get()) : 0));
}

Ref SslTransport::write_eof() {
    PyErr_SetNone(PyExc_NotImplementedError);
    return {};
}

// The end.

Ref SslTransport::is_closing() {
    if (closing_ || !lower_) return Ref::borrow(closing_ ? Py_True : Py_False);
    return stream_ ? stream_->is_closing() : py::call_method(lower_.get(), name(Name::is_closing));
}

bool SslTransport::note_end() {
    if (stage_ == Stage::kHandshake) {
        PyErr_SetNone(PyExc_ConnectionResetError);
        return handshake_failed();
    }
    // Once all is said, nobody's pausing keeps the end from being seen.
    bool wanted = !paused_ || stage_ == Stage::kShutdown;
    return !wanted || !connected() || end();
}

// No more comes from below. asyncio takes this for the peer's end, though TLS has a word for that.
bool SslTransport::end() {
    if (stage_ == Stage::kShutdown) return tell_end() && complete();
    return tell_end() && begin_closing();
}

// The peer has said that no more comes.
bool SslTransport::tell_end() {
    if (told_ != Told::kMade) return true;
    told_ = Told::kEnd;
    Ref protocol = protocol_;
    Ref answer = py::call_method(protocol.get(), name(Name::eof_received));
    int open = answer ? PyObject_IsTrue(answer.get()) : -1;
    if (open < 0) return callback_failed("Error calling eof_received()");
    return !open || Flow::warn("returning true from eof_received() has no effect when using ssl");
}

Ref SslTransport::close() { return begin_closing() ? Ref::none() : Ref(); }

// What waits in a transport whose TLS goes through this one. On asyncio's own it had been handed
// down when write() returned.
bool SslTransport::flush_above() {
    Ref protocol = protocol_;
    Sink* above = protocol ? sink_of(State::of(*loop()), protocol.get()) : nullptr;
    return !above || flush(above, true);
}

// What is written is sent, then the end is said, and the peer's awaited.
bool SslTransport::begin_closing() {
    if (!closing_ && !flush_above()) return false;
    closing_ = true;
    if (stage_ == Stage::kHandshake) return cut(nullptr);
    if (stage_ != Stage::kWrapped) return true;
    stage_ = Stage::kFlushing;
    says_end_ = !ended_;
    return start_timer(shutdown_timeout_.get()) && send();
}

bool SslTransport::finish() {
    stage_ = Stage::kShutdown;
    if (!says_end_) return tell_end() && complete();
    Result result;
    {
        Output output(loop());
        result = engine_->shut(output.bytes);
        PyErr_Clear();  // it ends in any case
        if (!put(output.bytes)) return false;
    }
    notified_ = notified_ || result == Result::kDone;
    if (ended_ || result == Result::kDone) return tell_end() && complete();
    if (result == Result::kFailed) return complete();
    // Its answer is looked for even where nobody wanted to read. What receive() is reading now, it
    // goes through to the end itself.
    if (!paused_) return true;
    paused_ = false;
    if (!engine_->left() && !receive(nullptr, 0)) return false;
    return !connected() || read_on();
}

// After close(): what the peer had under way is of no use to anybody.
bool SslTransport::discard() {
    Result result;
    do {
        char nowhere[kRecord];
        size_t count;
        Output output(loop());
        result = engine_->read(nowhere, sizeof nowhere, count, output.bytes);
        PyErr_Clear();
        discarded_ += count;
        if (!put(output.bytes)) return false;
    } while (result == Result::kDone && discarded_ <= kLinger);
    if (discarded_ > kLinger) return cut(nullptr);
    notified_ = notified_ || result == Result::kEnd;
    if (result == Result::kStarved || stage_ != Stage::kShutdown) return true;
    return (result != Result::kEnd || tell_end()) && complete();
}

// Both ends have said all.
bool SslTransport::complete() {
    if (!connected()) return true;
    stop_timer();
    return loop()->push(this, kClose);
}

Ref SslTransport::abort() { return force_close(Py_None); }

Ref SslTransport::force_close(PyObject* error) {
    closing_ = true;
    return flush_above() && send() && cut(error) ? Ref::none() : Ref();
}

// Ends the connection below, without a word to the peer. False: an exception is set.
bool SslTransport::cut(PyObject* error) {
    closing_ = true;
    if (!connected()) return true;
    if (!error) error = Py_None;
    if (stage_ != Stage::kHandshake) stage_ = Stage::kUnwrapped;
    Ref done = stream_ ? stream_->force_close_with(error)
                       : py::call_method(lower_.get(), name(Name::_force_close), error);
    return static_cast<bool>(done);
}

// The exception that is set goes to the exception handler. False: it leaves run_forever().
bool SslTransport::report(const char* message, bool fatal) {
    return State::of(*loop()).report(loop_.get(), object(), protocol_.get(), message, fatal);
}

// The exception that is set ends the connection. False as of report().
bool SslTransport::fatal(const char* message) {
    if (py::ends_program()) return false;
    Ref error = Ref::steal(py::take_raised());
    // An OSError is what connection_lost() is for, but debug mode logs it.
    if (loop()->debug() || !PyErr_GivenExceptionMatches(error.get(), PyExc_OSError)) {
        py::put_raised(error.new_ref());
        if (!report(message, true)) return false;
    }
    return cut(error.get());
}

// A callback has raised an exception that ends the connection. What it wrote before is sent: on
// asyncio's own transport it had been when write() returned.
void SslTransport::send_before_end() {
    py::ErrorGuard guard;
    if (!send()) loop()->put_aside(object());
}

bool SslTransport::callback_failed(const char* message) {
    send_before_end();
    return fatal(message);
}

// What is known of the connection.

// After a fatal error OpenSSL has it that the handshake is not done, and so getpeercert() raises.
Ref SslTransport::peer_certificate() {
    Ref found = py::call_method(ssl_object_.get(), name(Name::getpeercert));
    if (found || !PyErr_ExceptionMatches(PyExc_ValueError)) return found;
    PyErr_Clear();
    return py::call_method(loop_.get(), name(Name::_peer_certificate), ssl_object_.get());
}

Ref SslTransport::get_extra_info(py::Args args) {
    static constexpr const char* names[] = {"name", "default"};
    PyObject* slots[2] = {};
    if (!py::bind({"get_extra_info", names, 2, 2, 1}, args, slots)) return {};
    PyObject* fallback = slots[1] ? slots[1] : Py_None;
    auto is = [&](Name key) {
        return PyUnicode_Check(slots[0]) && PyUnicode_Compare(slots[0], name(key)) == 0;
    };
    if (is(Name::sslcontext)) return sslcontext_;
    if (shaken_) {
        if (is(Name::ssl_object)) return ssl_object_;
        if (is(Name::close_notify)) return Ref::borrow(notified_ ? Py_True : Py_False);
        if (is(Name::peercert)) return peer_certificate();
        if (is(Name::cipher)) return py::call_method(ssl_object_.get(), name(Name::cipher));
        if (is(Name::compression))
            return py::call_method(ssl_object_.get(), name(Name::compression));
    }
    if (!lower_) return Ref::borrow(fallback);
    return py::call_method(lower_.get(), name(Name::get_extra_info), slots[0], fallback);
}

Ref SslTransport::repr() {
    const char* state = !lower_        ? "unconnected"
                        : !connected() ? "closed"
                        : closing_     ? "closing"
                        : shaken_      ? "open"
                                       : "shaking hands";
    PyObject* below = lower_ ? lower_.get() : Py_None;
    return Ref::steal(
        PyUnicode_FromFormat("<%s %s on %R>", Py_TYPE(object())->tp_name, state, below));
}

}  // namespace pyev::net
