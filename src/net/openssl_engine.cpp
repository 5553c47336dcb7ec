// TLS by calls into OpenSSL.
#include "net/openssl_engine.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "py/error.hpp"
#include "py/lock.hpp"

namespace pyev::net {

using py::Ref;

// OpenSSL's numbers. What a BIO says that has nothing to read, or takes nothing just now.
static constexpr int kRead = 1, kWrite = 2, kShouldRetry = 8;
// Of a connection's shutdown: the peer has ended it.
static constexpr int kReceived = 2;
// A command to a BIO.
static constexpr int kFlush = 11;

static const OpenSsl& openssl = OpenSsl::library;

OpenSsl::BioMethod* OpenSslEngine::make_method(const OpenSsl& library) {
    OpenSsl::BioMethod* method = library.BIO_meth_new(library.BIO_get_new_index(), "pyev");
    if (!method) return nullptr;
    library.BIO_meth_set_read(method, read_records);
    library.BIO_meth_set_write(method, write_records);
    library.BIO_meth_set_ctrl(method, control);
    return method;
}

TlsEngine* OpenSslEngine::make(OpenSsl::Ssl* connection, PyObject* object) {
    auto* engine = new (std::nothrow) OpenSslEngine;
    OpenSsl::Bio* bio = engine ? openssl.BIO_new(openssl.method) : nullptr;
    if (!bio) {
        delete engine;
        PyErr_NoMemory();
        return nullptr;
    }
    openssl.BIO_set_data(bio, engine);
    openssl.BIO_set_init(bio, 1);
    openssl.SSL_set_bio(connection, bio, bio);
    engine->connection_ = connection;
    engine->bio_ = bio;
    engine->object_ = Ref::borrow(object);
    return engine;
}

// The connection may outlive us, for whoever has the SSLObject.
OpenSslEngine::~OpenSslEngine() {
    if (bio_) openssl.BIO_set_data(bio_, nullptr);
}

// What OpenSSL calls.

OpenSslEngine* OpenSslEngine::of(OpenSsl::Bio* bio) {
    return static_cast<OpenSslEngine*>(openssl.BIO_get_data(bio));
}

int OpenSslEngine::read_records(OpenSsl::Bio* bio, char* into, int size) {
    OpenSslEngine* self = of(bio);
    openssl.BIO_clear_flags(bio, kRead | kWrite | kShouldRetry);
    if (!self || size <= 0) return -1;
    if (!self->size_) {
        openssl.BIO_set_flags(bio, kRead | kShouldRetry);
        return -1;
    }
    size_t count = std::min(static_cast<size_t>(size), self->size_);
    std::memcpy(into, self->records_, count);
    self->records_ += count;
    self->size_ -= count;
    return static_cast<int>(count);
}

int OpenSslEngine::write_records(OpenSsl::Bio* bio, const char* data, int size) {
    OpenSslEngine* self = of(bio);
    openssl.BIO_clear_flags(bio, kRead | kWrite | kShouldRetry);
    if (!self || size < 0) return -1;
    Output& output = self->output_ ? *self->output_ : self->kept_;
    return output.append(data, static_cast<size_t>(size)) ? size : -1;
}

long OpenSslEngine::control(OpenSsl::Bio*, int command, long, void*) { return command == kFlush; }

// What calls OpenSSL.

bool OpenSslEngine::feed(const char* records, size_t size) {
    records_ = records;
    size_ = size;
    return true;
}

bool OpenSslEngine::pending() { return openssl.SSL_has_pending(connection_) != 0; }

// `function` returns what OpenSSL did: above 0 is success. Its queue of errors is empty before, for
// SSL_get_error() looks there.
template <class F>
TlsEngine::Result OpenSslEngine::call(Output& output, F function) {
    py::Lock lock(object_.get());  // as ssl itself does
    if (!kept_.empty()) {
        if (!output.append(kept_.begin(), kept_.size())) return Result::kFailed;
        kept_.reset(0);
    }
    output_ = &output;
    if (openssl.ERR_peek_error()) openssl.ERR_clear_error();  // which takes long in any case
    int returned = function();
    Result result = Result::kDone;
    if (returned <= 0) {
        int error = openssl.SSL_get_error(connection_, returned);
        bool again = error == OpenSsl::kWantRead || error == OpenSsl::kWantWrite;
        result = again ? Result::kStarved : error == OpenSsl::kZeroReturn ? Result::kEnd : failed();
    }
    output_ = nullptr;
    // A callback of the context's may have raised.
    return PyErr_Occurred() ? Result::kFailed : result;
}

// A connection that has seen its end reads nothing, at once, and leaves OpenSSL's queue of errors
// alone. So after a fatal error ssl itself is asked to read, which makes the exception of what it
// finds there.
TlsEngine::Result OpenSslEngine::failed() {
    if (PyErr_Occurred()) return Result::kFailed;
    openssl.SSL_set_shutdown(connection_, openssl.SSL_get_shutdown(connection_) | kReceived);
    Ref nothing = Ref::steal(PyObject_CallMethod(object_.get(), "read", "i", 1));
    if (nothing) (void)py::raise(PyExc_ConnectionAbortedError, "TLS failed without a reason");
    return Result::kFailed;
}

TlsEngine::Result OpenSslEngine::handshake(Output& output) {
    return call(output, [this] { return openssl.SSL_do_handshake(connection_); });
}

TlsEngine::Result OpenSslEngine::read(char* into, size_t size, size_t& count, Output& output) {
    count = 0;
    return call(output, [&] { return openssl.SSL_read_ex(connection_, into, size, &count); });
}

TlsEngine::Result OpenSslEngine::write(const char* data, size_t size, Output& output) {
    size_t taken;
    return call(output, [&] { return openssl.SSL_write_ex(connection_, data, size, &taken); });
}

TlsEngine::Result OpenSslEngine::shut(Output& output) {
    bool both = false;
    Result result = call(output, [&] {
        int returned = openssl.SSL_shutdown(connection_);
        both = returned == 1;
        return returned == 0 ? 1 : returned;
    });
    return result == Result::kDone && !both ? Result::kStarved : result;
}

}  // namespace pyev::net
