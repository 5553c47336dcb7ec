// TlsEngine: what TLS itself is done by. Records go in, records come out, and bytes at the other
// side; where they come from and go to is not its business.
//
// Two of them: OpenSslEngine calls OpenSSL, StdlibEngine the objects of Python's ssl.
#pragma once

#include <Python.h>

#include <cstddef>

#include "py/array.hpp"
#include "py/lock.hpp"
#include "py/ref.hpp"

namespace pyev::net {

class State;

// What the engines need of Python's ssl, and which of them is to be used. Found when a first
// connection needs it.
struct TlsNames {
    py::Ref memory_bio, plain_object, again, ended, certificate_error, wrap_names;
    py::Ref why_not;  // OpenSSL is not called directly; None when it is

    // In any thread.
    [[nodiscard]] bool prepare() { return ready_ || find(); }

    template <class F>
    void each_ref(F f) {
        f(memory_bio);
        f(plain_object);
        f(again);
        f(ended);
        f(certificate_error);
        f(wrap_names);
        f(why_not);
    }

 private:
    [[nodiscard]] bool find();
    [[nodiscard]] bool look();

    py::Atomic<bool> ready_ = false;
    [[no_unique_address]] py::Mutex mutex_;
};

class TlsEngine {
 public:
    enum class Result {
        kDone,
        kStarved,  // more records are needed
        kEnd,      // the peer has said that no more comes
        kFailed,   // an exception is set
    };
    using Output = py::Array<char>;

    // For one end of a connection: `object` is an ssl.SSLObject. Null: an exception is set.
    static TlsEngine* make(State& state, PyObject* context, bool server_side,
                           PyObject* server_hostname, py::Ref& object);
    virtual ~TlsEngine() = default;

    // Records that have come in. They are read where they are, and what is left() when nothing more
    // is to be read now has to be given again.
    [[nodiscard]] virtual bool feed(const char* records, size_t size) = 0;
    virtual size_t left() const = 0;
    // Whether read() may bring something without more records.
    virtual bool pending() = 0;

    // Each leaves what is to be sent in `output`.
    virtual Result handshake(Output& output) = 0;
    virtual Result read(char* into, size_t size, size_t& count, Output& output) = 0;
    // Takes all or, starved, nothing.
    virtual Result write(const char* data, size_t size, Output& output) = 0;
    // Says that no more comes from here. kDone: the peer has said so, too.
    virtual Result shut(Output& output) = 0;

    template <class F>
    void each_ref(F f) {
        f(object_);
    }

 protected:
    py::Ref object_;  // ssl's inner object
};

}  // namespace pyev::net
