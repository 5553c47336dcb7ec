// OpenSslEngine: TLS by calls into OpenSSL, on a connection that Python's ssl has made.
//
// The ssl.SSLObject stays whole: contexts, callbacks, certificates and what it tells of the
// connection are Python's own. Only the two buffers that it moves records through are replaced.
#pragma once

#include <Python.h>

#include "net/openssl.hpp"
#include "net/tls_engine.hpp"

namespace pyev::net {

class OpenSslEngine : public TlsEngine {
 public:
    // What all connections move their records by; null when there is no memory.
    static OpenSsl::BioMethod* make_method(const OpenSsl& library);
    // `object` is ssl's inner object around the connection. Null: an exception is set.
    static TlsEngine* make(OpenSsl::Ssl* connection, PyObject* object);
    ~OpenSslEngine() override;

    bool feed(const char* records, size_t size) override;
    size_t left() const override { return size_; }
    bool pending() override;

    Result handshake(Output& output) override;
    Result read(char* into, size_t size, size_t& count, Output& output) override;
    Result write(const char* data, size_t size, Output& output) override;
    Result shut(Output& output) override;

 private:
    static OpenSslEngine* of(OpenSsl::Bio* bio);
    static int read_records(OpenSsl::Bio* bio, char* into, int size);
    static int write_records(OpenSsl::Bio* bio, const char* data, int size);
    static long control(OpenSsl::Bio* bio, int command, long, void*);

    template <class F>
    Result call(Output& output, F function);
    Result failed();

    OpenSsl::Ssl* connection_ = nullptr;  // object_'s
    OpenSsl::Bio* bio_ = nullptr;         // the connection's
    const char* records_ = nullptr;
    size_t size_ = 0;
    Output* output_ = nullptr;  // while one of ours calls
    Output kept_;               // what others have called for, with the SSLObject's own methods
};

}  // namespace pyev::net
