// What asyncio's StreamReader does with what comes in, and what is known of its classes.
#include "net/streams.hpp"

#include <cstring>

#include "ev/state.hpp"
#include "net/state.hpp"
#include "net/stream_call.hpp"
#include "net/stream_reader.hpp"
#include "net/stream_writer.hpp"
#include "py/compat.hpp"
#include "py/error.hpp"

namespace pyev::net {

using py::Ref;

// So many attributes StreamReader.__init__() sets: where there are more, one may be a method that
// somebody put there.
static constexpr Py_ssize_t kAttributes = 8;

// What becomes of two threads that read from one stream at the same time.
static constexpr const char* kChanged = "another thread has taken from the stream's buffer";

// Known classes.

// Whether `object` is the very function, or property, that `module` came with.
static bool came_with(PyObject* object, PyObject* module, const char* name) {
    Ref function = Ref::borrow(object);
    if (!PyFunction_Check(object)) {
        function = Ref::steal(PyObject_GetAttrString(object, "fget"));
        if (!function || !PyFunction_Check(function.get())) return PyErr_Clear(), false;
    }
    Ref own =
        Ref::steal(PyObject_GetAttrString(PyFunction_GET_CODE(function.get()), "co_qualname"));
    const char* found = own ? PyUnicode_AsUTF8(own.get()) : nullptr;
    if (!found) return PyErr_Clear(), false;
    const char* last = std::strrchr(found, '.');
    return PyFunction_GET_GLOBALS(function.get()) == PyModule_GetDict(module) && last &&
           std::strcmp(last + 1, name) == 0;
}

bool KnownClass::learn(PyObject* type, const char* const* names, PyObject* module,
                       KnownClass* base) {
    type_ = Ref::borrow(type);
    base_ = base;
    known_ = true;
    for (; *names; ++names, ++size_) {
        names_[size_] = Ref::steal(PyUnicode_InternFromString(*names));
        if (!names_[size_]) return false;
        methods_[size_] = Ref::steal(PyObject_GetAttr(type, names_[size_].get()));
        if (!methods_[size_]) return false;
        if (!base && !came_with(methods_[size_].get(), module, *names)) known_ = false;
    }
    return true;
}

// Looking a method up gives the class a version.
bool KnownClass::look() {
    auto* type = reinterpret_cast<PyTypeObject*>(type_.get());
    if (type->tp_version_tag && type->tp_version_tag == touched_) return false;
    bool same = known_ && (!base_ || base_->untouched()) &&
                type->tp_getattro == PyObject_GenericGetAttr &&
                type->tp_setattro == PyObject_GenericSetAttr;
    for (size_t i = 0; i < size_ && same; ++i) {
        Ref found = Ref::steal(PyObject_GetAttr(type_.get(), names_[i].get()));
        if (!found) PyErr_Clear();
        same = found.get() == methods_[i].get();
    }
    (same ? untouched_ : touched_) = type->tp_version_tag;
    return same;
}

PyObject* KnownClass::call_super(size_t index, PyObject* self, PyObject* const* values,
                                 Py_ssize_t count, PyObject* names) const {
    Ref parent = py::call(reinterpret_cast<PyObject*>(&PySuper_Type), type_.get(), self), method;
    if (parent) method = Ref::steal(PyObject_GetAttr(parent.get(), names_[index].get()));
    if (!method) return nullptr;
    return PyObject_Vectorcall(method.get(), values, static_cast<size_t>(count), names);
}

// What streams share.

static constexpr const char* kNames[] = {
#define PYEV_NAME(name) #name,
    PYEV_STREAM_NAMES(PYEV_NAME)
#undef PYEV_NAME
};

// See Streams::Method.
static constexpr const char* kReaderMethods[] = {
    "read",           "readexactly", "readuntil",
    "readline",       "__anext__",   "_wait_for_data",
    "_wakeup_waiter", "feed_data",   "_maybe_resume_transport",
    "exception",      "at_eof",      nullptr,
};
static constexpr const char* kProtocolMethods[] = {"data_received", "_stream_reader",
                                                   "_drain_helper", nullptr};
static constexpr const char* kWriterMethods[] = {"write", "writelines", "drain", nullptr};

Streams* Streams::of(PyObject* object) {
    PyObject* module = PyType_GetModuleByDef(Py_TYPE(object), ev::State::definition);
    return module ? &static_cast<State*>(aio::State::of(module))->streams : nullptr;
}

bool Streams::init(PyObject* module) {
    for (size_t i = 0; i < names.size(); ++i) {
        names[i] = Ref::steal(PyUnicode_InternFromString(kNames[i]));
        if (!names[i]) return false;
    }
    Ref streams = Ref::steal(PyImport_ImportModule("asyncio.streams"));
    Ref futures = Ref::steal(PyImport_ImportModule("asyncio.futures"));
    Ref exceptions = Ref::steal(PyImport_ImportModule("asyncio.exceptions"));
    if (!streams || !futures || !exceptions) return false;
    auto find = [](Ref& from, const char* name) {
        return from ? Ref::steal(PyObject_GetAttrString(from.get(), name)) : Ref();
    };
    Ref reader_type = find(streams, "StreamReader"), writer_type = find(streams, "StreamWriter");
    Ref protocol_type = find(streams, "StreamReaderProtocol");
    incomplete_read = find(exceptions, "IncompleteReadError");
    limit_overrun = find(exceptions, "LimitOverrunError");
    future = find(futures, "Future");
    if (!reader_type || !protocol_type || !writer_type || !incomplete_read || !limit_overrun ||
        !future)
        return false;
    Ref our_reader = make_stream_reader(module, reader_type.get());
    Ref our_writer = make_stream_writer(module, writer_type.get());
    if (!our_reader || !our_writer ||
        !reader.learn(reader_type.get(), kReaderMethods, streams.get()) ||
        !protocol.learn(protocol_type.get(), kProtocolMethods, streams.get()) ||
        !native_reader.learn(our_reader.get(), kReaderMethods, nullptr, &reader) ||
        !writer.learn(writer_type.get(), kWriterMethods, streams.get()) ||
        !native_writer.learn(our_writer.get(), kWriterMethods, nullptr, &writer))
        return false;
    call = py::make_type<StreamCall, true>(module);
    return ready();
}

// A reader.

ReaderAttributes::ReaderAttributes(Streams& streams, PyObject* reader)
    : Attributes(streams, reader) {
    KnownClass* known = streams.native_reader.is_type_of(reader) ? &streams.native_reader
                        : streams.reader.is_type_of(reader)      ? &streams.reader
                                                                 : nullptr;
    if (!known || !known->untouched() || !dict_) return;
    if (size() != kAttributes) {
        for (size_t i = 0; i < known->size(); ++i)
            if (get(known->name(i))) return;
    }
    if (!find()) buffer_ = Ref();
}

bool ReaderAttributes::find() {
    py::Found paused = get(Attribute::_paused);
    py::Found limit = get(Attribute::_limit);
    py::Found buffer = get(Attribute::_buffer);
    if ((paused != Py_False && paused != Py_True) || !limit || !PyLong_CheckExact(limit) ||
        !buffer || !PyByteArray_CheckExact(buffer) || py::exported(buffer))
        return false;
    Py_ssize_t most = PyLong_AsSsize_t(limit);
    if (most < 0) return PyErr_Clear(), false;
    buffer_ = Ref::borrow(buffer);
    limit_ = static_cast<size_t>(most);
    paused_ = paused == Py_True;
    return true;
}

bool ReaderAttributes::resume() {
    paused_ = false;
    if (!set(Attribute::_paused, Py_False)) return false;
    Ref transport = Ref::borrow(get(Attribute::_transport));
    if (!transport) transport = Ref::none();
    return static_cast<bool>(
        py::call_method(transport.get(), streams_.name(Attribute::resume_reading)));
}

bool ReaderAttributes::copy(size_t size, Ref& bytes) {
    py::Lock lock(buffer_.get());
    if (!py::kHasGil && buffered() < size) return py::raise(PyExc_RuntimeError, "%s", kChanged);
    bytes = Ref::steal(PyBytes_FromStringAndSize(data(), static_cast<Py_ssize_t>(size)));
    return static_cast<bool>(bytes);
}

bool ReaderAttributes::drop(size_t size) {
    {
        py::Lock lock(buffer_.get());
        if (!py::kHasGil && buffered() < size) return py::raise(PyExc_RuntimeError, "%s", kChanged);
        if (!py::drop_head(buffer_.get(), static_cast<Py_ssize_t>(size))) return false;
    }
    return !paused_ || buffered() > limit_ || resume();
}

bool ReaderAttributes::take_all(Ref& bytes) {
    py::Lock lock(buffer_.get());
    return copy(buffered(), bytes) && PyByteArray_Resize(buffer_.get(), 0) == 0;
}

Served ReaderAttributes::append(const char* data, size_t size) {
    Ref waiter = Ref::borrow(get(Attribute::_waiter));
    if (!open() || !waiter ||
        (waiter.get() != Py_None && Py_TYPE(waiter.get()) != streams_.future_type()))
        return Served::kUnusual;
    if (!size) return Served::kDone;
    py::Lock lock(buffer_.get());
    size_t before = buffered();
    if (PyByteArray_Resize(buffer_.get(), static_cast<Py_ssize_t>(before + size)) < 0)
        return Served::kFailed;
    std::memcpy(PyByteArray_AS_STRING(buffer_.get()) + before, data, size);
    lock.end();
    bool done = waiter.get() == Py_None || wake(waiter.get());
    return done && pause() ? Served::kDone : Served::kFailed;
}

Ref ReaderAttributes::make_waiter() {
    if (paused_ && !resume()) return {};
    Ref loop = Ref::borrow(get(Attribute::_loop)), waiter;
    if (loop) waiter = py::call_method(loop.get(), streams_.name(Attribute::create_future));
    return waiter && set(Attribute::_waiter, waiter.get()) ? waiter : Ref();
}

bool ReaderAttributes::wake(PyObject* waiter) {
    if (!set(Attribute::_waiter, Py_None)) return false;
    Ref cancelled = py::call_method(waiter, streams_.name(Attribute::cancelled));
    int gone = cancelled ? PyObject_IsTrue(cancelled.get()) : -1;
    if (gone) return gone > 0;
    return static_cast<bool>(
        py::call_method(waiter, streams_.name(Attribute::set_result), Py_None));
}

// Holds the transport back when there is more than twice the limit.
bool ReaderAttributes::pause() {
    py::Found transport = get(Attribute::_transport);
    if (paused_ || !transport || transport == Py_None || buffered() <= 2 * limit_) return true;
    Ref keep = Ref::borrow(transport);
    if (py::call_method(transport, streams_.name(Attribute::pause_reading)))
        return set(Attribute::_paused, Py_True);
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) return false;
    PyErr_Clear();
    return set(Attribute::_transport, Py_None);
}

// Feeding.

Served Streams::feed_reader(PyObject* object, const char* data, size_t size) {
    ReaderAttributes attributes(*this, object);
    return attributes.plain() ? attributes.append(data, size) : Served::kUnusual;
}

Served Streams::feed(PyObject* object, const char* data, size_t size) {
    // It may have been given another class since.
    if (!feeds(object) || !protocol.untouched()) return Served::kUnusual;
    Attributes attributes(*this, object);
    if (!attributes || attributes.get(Attribute::data_received)) return Served::kUnusual;
    py::Found weak = attributes.get(Attribute::_stream_reader_wr);
    if (!weak || !PyWeakref_CheckRefExact(weak)) return Served::kUnusual;
    Ref found = py::call(weak);
    if (!found || found.get() == Py_None) return PyErr_Clear(), Served::kUnusual;
    return feed_reader(found.get(), data, size);
}

bool Streams::adopt(PyObject* object) {
    if (!feeds(object) || !protocol.untouched() || !reader.untouched()) return true;
    Attributes attributes(*this, object);
    py::Found weak = attributes ? attributes.get(Attribute::_stream_reader_wr) : nullptr;
    if (!weak || !PyWeakref_CheckRefExact(weak)) return true;
    Ref found = py::call(weak);
    if (!found) return false;
    return !reader.is_type_of(found.get()) ||
           PyObject_SetAttr(found.get(), name(Attribute::__class__), native_reader.type()) == 0;
}

}  // namespace pyev::net
