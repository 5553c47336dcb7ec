// TLS by the objects of Python's ssl.
#include "net/stdlib_engine.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "net/state.hpp"
#include "py/call.hpp"
#include "py/error.hpp"

namespace pyev::net {

using py::Ref;

TlsEngine* StdlibEngine::make(State& state, PyObject* object, PyObject* incoming,
                              PyObject* outgoing) {
    auto* engine = new (std::nothrow) StdlibEngine(state);
    if (!engine) return PyErr_NoMemory(), nullptr;
    engine->object_ = Ref::borrow(object);
    engine->incoming_ = Ref::borrow(incoming);
    engine->outgoing_ = Ref::borrow(outgoing);
    return engine;
}

bool StdlibEngine::feed(const char* records, size_t size) {
    if (!size) return true;
    Ref bytes = Ref::steal(PyBytes_FromStringAndSize(records, static_cast<Py_ssize_t>(size)));
    return bytes && py::call_method(incoming_.get(), state_.name(Name::write), bytes.get());
}

// What a method of the SSLObject returned, and what it has to send.
TlsEngine::Result StdlibEngine::result_of(const Ref& answer, Output& output) {
    Result result = Result::kDone;
    if (!answer) {
        result = PyErr_ExceptionMatches(state_.tls.again.get())   ? Result::kStarved
                 : PyErr_ExceptionMatches(state_.tls.ended.get()) ? Result::kEnd
                                                                  : Result::kFailed;
        if (result != Result::kFailed) PyErr_Clear();
    }
    Ref error = Ref::steal(py::take_raised());
    Ref records = py::call_method(outgoing_.get(), state_.name(Name::read));
    bool moved = records && output.append(PyBytes_AS_STRING(records.get()),
                                          static_cast<size_t>(PyBytes_GET_SIZE(records.get())));
    if (error) py::put_raised(error.release());
    return moved ? result : Result::kFailed;
}

TlsEngine::Result StdlibEngine::handshake(Output& output) {
    return result_of(py::call_method(object_.get(), state_.name(Name::do_handshake)), output);
}

TlsEngine::Result StdlibEngine::read(char* into, size_t size, size_t& count, Output& output) {
    count = 0;
    Ref most = Ref::steal(PyLong_FromSize_t(size)), bytes;
    if (!most) return Result::kFailed;
    bytes = py::call_method(object_.get(), state_.name(Name::read), most.get());
    Result result = result_of(bytes, output);
    if (result != Result::kDone) return result;
    Py_buffer view;
    if (PyObject_GetBuffer(bytes.get(), &view, PyBUF_SIMPLE) < 0) return Result::kFailed;
    count = std::min(static_cast<size_t>(view.len), size);
    std::memcpy(into, view.buf, count);
    PyBuffer_Release(&view);
    return count ? Result::kDone : Result::kEnd;
}

TlsEngine::Result StdlibEngine::write(const char* data, size_t size, Output& output) {
    Ref bytes = Ref::steal(PyBytes_FromStringAndSize(data, static_cast<Py_ssize_t>(size)));
    if (!bytes) return Result::kFailed;
    return result_of(py::call_method(object_.get(), state_.name(Name::write), bytes.get()), output);
}

TlsEngine::Result StdlibEngine::shut(Output& output) {
    // unwrap() fails at what has come already, which nobody wants any more.
    Result result;
    do {
        char nowhere[16 * 1024];
        size_t count;
        result = read(nowhere, sizeof nowhere, count, output);
        PyErr_Clear();
    } while (result == Result::kDone);
    if (result == Result::kFailed) return result;
    return result_of(py::call_method(object_.get(), state_.name(Name::unwrap)), output);
}

}  // namespace pyev::net
