// Which engine a connection gets.
#include "net/tls_engine.hpp"

#include <cstdlib>
#include <cstring>

#include "net/openssl_engine.hpp"
#include "net/state.hpp"
#include "net/stdlib_engine.hpp"
#include "py/call.hpp"
#include "py/error.hpp"

namespace pyev::net {

using py::Ref;

// What another thread has found meanwhile stays.
bool TlsNames::find() {
    TlsNames found;
    if (!found.look()) return false;
    py::Hold hold(mutex_);
    if (ready_) return true;
    memory_bio.swap(found.memory_bio);
    plain_object.swap(found.plain_object);
    again.swap(found.again);
    ended.swap(found.ended);
    certificate_error.swap(found.certificate_error);
    wrap_names.swap(found.wrap_names);
    why_not.swap(found.why_not);
    ready_ = true;
    return true;
}

bool TlsNames::look() {
    Ref ssl = Ref::steal(PyImport_ImportModule("ssl"));
    if (!ssl) return false;
    // None is looked up any more once one is missing: that would clear the exception.
    auto get = [&](const char* name) {
        return PyErr_Occurred() ? Ref() : Ref::steal(PyObject_GetAttrString(ssl.get(), name));
    };
    Ref want_read = get("SSLWantReadError"), syscall = get("SSLSyscallError");
    memory_bio = get("MemoryBIO");
    plain_object = get("SSLObject");
    ended = get("SSLZeroReturnError");
    certificate_error = get("CertificateError");
    if (!want_read || !syscall || !memory_bio || !plain_object || !ended || !certificate_error)
        return false;
    again = Ref::steal(PyTuple_Pack(2, want_read.get(), syscall.get()));
    if (again) wrap_names = Ref::steal(Py_BuildValue("(ss)", "server_side", "server_hostname"));
    if (!wrap_names) return false;
    const char* chosen = std::getenv("PYEV_TLS");
    Ref why = chosen && std::strcmp(chosen, "stdlib") == 0
                  ? Ref::steal(PyUnicode_FromString("PYEV_TLS=stdlib"))
                  : OpenSsl::find(ssl.get());
    why_not = why;
    return static_cast<bool>(why);
}

TlsEngine* TlsEngine::make(State& state, PyObject* context, bool server_side,
                           PyObject* server_hostname, Ref& object) {
    TlsNames& tls = state.tls;
    if (!tls.prepare()) return nullptr;
    Ref incoming = py::call(tls.memory_bio.get()), outgoing;
    if (incoming) outgoing = py::call(tls.memory_bio.get());
    if (!outgoing) return nullptr;
    PyObject* values[] = {context, incoming.get(), outgoing.get(), server_side ? Py_True : Py_False,
                          server_hostname};
    object = Ref::steal(
        PyObject_VectorcallMethod(state.name(Name::wrap_bio), values, 3, tls.wrap_names.get()));
    if (!object) return nullptr;
    if (tls.why_not.get() == Py_None &&
        Py_IS_TYPE(object.get(), reinterpret_cast<PyTypeObject*>(tls.plain_object.get()))) {
        Ref inner = Ref::steal(PyObject_GetAttr(object.get(), state.name(Name::_sslobj))), own;
        if (inner) own = Ref::steal(PyObject_GetAttr(inner.get(), state.name(Name::context)));
        if (!own) return nullptr;
        auto* connection = OpenSsl::library.connection_of(inner.get(), own.get());
        if (connection) return OpenSslEngine::make(connection, inner.get());
    }
    return StdlibEngine::make(state, object.get(), incoming.get(), outgoing.get());
}

}  // namespace pyev::net
