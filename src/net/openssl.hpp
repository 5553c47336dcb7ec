// The OpenSSL that Python's ssl module uses, found at run time: nothing here links to one.
//
// Found through the _ssl module itself, so that it is that copy and no other, and tried on a
// connection that leads nowhere before it is trusted. Its functions keep their names, and are
// declared here, for OpenSSL's headers need not be there: the ABI is that of 1.1.1 and 3.
#pragma once

#include <Python.h>

#include <cstddef>

#include "py/ref.hpp"

namespace pyev::net {

struct OpenSsl {
    struct Ssl;
    struct Bio;
    struct BioMethod;

    // SSL_get_error()'s answers that are no failures.
    enum Error { kWantRead = 2, kWantWrite = 3, kZeroReturn = 6 };

    // clang-format off
#define PYEV_OPENSSL(X) \
    X(const char*, OpenSSL_version, (int)) \
    X(int, SSL_do_handshake, (Ssl*)) \
    X(int, SSL_read_ex, (Ssl*, void*, size_t, size_t*)) \
    X(int, SSL_write_ex, (Ssl*, const void*, size_t, size_t*)) \
    X(int, SSL_has_pending, (const Ssl*)) \
    X(int, SSL_shutdown, (Ssl*)) \
    X(int, SSL_get_shutdown, (const Ssl*)) \
    X(void, SSL_set_shutdown, (Ssl*, int)) \
    X(int, SSL_get_error, (const Ssl*, int)) \
    X(void*, SSL_get_ex_data, (const Ssl*, int)) \
    X(void, SSL_set_bio, (Ssl*, Bio*, Bio*)) \
    X(void, ERR_clear_error, ()) \
    X(unsigned long, ERR_peek_error, ()) \
    X(int, BIO_get_new_index, ()) \
    X(BioMethod*, BIO_meth_new, (int, const char*)) \
    X(int, BIO_meth_set_read, (BioMethod*, int (*)(Bio*, char*, int))) \
    X(int, BIO_meth_set_write, (BioMethod*, int (*)(Bio*, const char*, int))) \
    X(int, BIO_meth_set_ctrl, (BioMethod*, long (*)(Bio*, int, long, void*))) \
    X(Bio*, BIO_new, (const BioMethod*)) \
    X(void, BIO_set_init, (Bio*, int)) \
    X(void, BIO_set_data, (Bio*, void*)) \
    X(void*, BIO_get_data, (Bio*)) \
    X(void, BIO_set_flags, (Bio*, int)) \
    X(void, BIO_clear_flags, (Bio*, int))

#define PYEV_FUNCTION(result, name, arguments) result (*name) arguments;
    PYEV_OPENSSL(PYEV_FUNCTION)
#undef PYEV_FUNCTION
    // clang-format on

    // What moves the records of a connection: see OpenSslEngine.
    BioMethod* method;

    // The one of this process, whatever interpreter uses it; to be used once find() has found it.
    static OpenSsl library;

    // None, or why it cannot be used, for a person to read. `ssl` is the module. Empty: an
    // exception is set.
    static py::Ref find(PyObject* ssl);

    // The connection inside of an ssl.SSLObject's `_sslobj`; null when it has another layout.
    Ssl* connection_of(PyObject* object, PyObject* context) const;
};

}  // namespace pyev::net
