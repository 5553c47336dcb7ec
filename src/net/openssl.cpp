// Finding the OpenSSL that Python's ssl module uses.
#include "net/openssl.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstring>
#include <mutex>

#include "net/openssl_engine.hpp"
#include "py/call.hpp"
#include "py/error.hpp"

namespace pyev::net {

using py::Ref;

// What CPython's _ssl keeps behind an object's head, from 3.7 to 3.14 at least.
struct SslSocket {
    PyObject_HEAD
    PyObject* socket;  // null on memory buffers
    OpenSsl::Ssl* connection;
    PyObject* context;
};

OpenSsl::Ssl* OpenSsl::connection_of(PyObject* object, PyObject* context) const {
    if (Py_TYPE(object)->tp_basicsize < static_cast<Py_ssize_t>(sizeof(SslSocket))) return nullptr;
    auto* inside = reinterpret_cast<SslSocket*>(object);
    // Two words that are known around the one that is not: it is not followed before.
    if (inside->socket || inside->context != context || !inside->connection) return nullptr;
    return SSL_get_ex_data(inside->connection, 0) == object ? inside->connection : nullptr;
}

static Ref reason(const char* text) { return Ref::steal(PyUnicode_FromString(text)); }

// The library's functions; false when one is missing. _ssl may be part of the interpreter.
static bool load(PyObject* module, OpenSsl& found) {
    Ref file = Ref::steal(PyObject_GetAttrString(module, "__file__"));
    const char* path = file ? PyUnicode_AsUTF8(file.get()) : nullptr;
    PyErr_Clear();
    void* library = dlopen(path, RTLD_LAZY | (path ? RTLD_NOLOAD : 0));
    if (!library) return false;
    bool complete = true;
    auto get = [&](const char* name, auto& function) {
        void* address = dlsym(library, name);
        std::memcpy(&function, &address, sizeof address);
        complete = complete && address;
    };
#define PYEV_FUNCTION(result, name, arguments) get(#name, found.name);
    PYEV_OPENSSL(PYEV_FUNCTION)
#undef PYEV_FUNCTION
    // _ssl, which is never unloaded, keeps it.
    dlclose(library);
    return complete;
}

// A connection made by `ssl` has to be found inside of its object. -1: an exception is set.
static int fits(PyObject* ssl, const OpenSsl& found) {
    Ref protocol = Ref::steal(PyObject_GetAttrString(ssl, "PROTOCOL_TLS_SERVER")), context, object;
    Ref bio, inside;
    if (protocol) bio = Ref::steal(PyObject_CallMethod(ssl, "MemoryBIO", nullptr));
    if (bio) context = Ref::steal(PyObject_CallMethod(ssl, "SSLContext", "O", protocol.get()));
    if (context)
        object = Ref::steal(
            PyObject_CallMethod(context.get(), "wrap_bio", "OOO", bio.get(), bio.get(), Py_True));
    if (object) inside = Ref::steal(PyObject_GetAttrString(object.get(), "_sslobj"));
    if (!inside) return -1;
    return found.connection_of(inside.get(), context.get()) != nullptr;
}

static Ref look(PyObject* ssl, OpenSsl& found) {
    Ref module = Ref::steal(PyImport_ImportModule("_ssl"));
    Ref version = module ? Ref::steal(PyObject_GetAttrString(ssl, "OPENSSL_VERSION")) : Ref();
    const char* name = version ? PyUnicode_AsUTF8(version.get()) : nullptr;
    if (!name) return {};
    if (std::strncmp(name, "OpenSSL ", 8) != 0)
        return Ref::steal(PyUnicode_FromFormat("Python's ssl uses %s", name));
    if (!load(module.get(), found))
        return reason("the functions of Python's OpenSSL cannot be reached");
    constexpr int kVersion = 0;
    if (std::strcmp(found.OpenSSL_version(kVersion), name) != 0)
        return reason("another OpenSSL than that of Python's ssl was found");
    int answer = fits(ssl, found);
    if (answer < 0) return {};
    if (!answer) return reason("connections of Python's ssl have an unknown layout");
    found.method = OpenSslEngine::make_method(found);
    return found.method ? Ref::none() : reason("OpenSSL has no memory");
}

OpenSsl OpenSsl::library;

static std::mutex mutex;
static std::atomic<bool> complete;  // the library

Ref OpenSsl::find(PyObject* ssl) {
    if (complete) return Ref::none();
    OpenSsl found = {};
    Ref why = look(ssl, found);
    if (why.get() != Py_None) return why;
    // Of several threads, or interpreters, the first.
    std::lock_guard lock(mutex);
    if (!complete) library = found;
    complete = true;
    return why;
}

}  // namespace pyev::net
