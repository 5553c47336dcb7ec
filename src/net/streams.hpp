// asyncio's streams, as far as they are served natively.
//
// A StreamReader and a StreamReaderProtocol keep asyncio's own attributes, in their dictionaries:
// whoever looks there, or calls asyncio's own methods, finds what asyncio would have left. What is
// done natively is what asyncio's methods do, and only for objects of exactly these classes, as
// long as nobody has put another method in the place of one of them; anything else goes through
// Python.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>

#include "aio/state.hpp"
#include "py/array.hpp"
#include "py/call.hpp"
#include "py/lock.hpp"
#include "py/ref.hpp"

namespace pyev::net {

// Attributes of readers and protocols, and what they call.
// clang-format off
#define PYEV_STREAM_NAMES(X) \
    X(_buffer) X(_eof) X(_exception) X(_limit) X(_loop) X(_paused) X(_transport) X(_waiter) \
    X(_stream_reader_wr) X(_connection_lost) X(_protocol) X(_reader) X(data_received) \
    X(_drain_helper) X(__class__) X(cancelled) X(create_future) X(pause_reading) \
    X(resume_reading) X(set_result) X(is_closing) X(write) X(writelines)

enum class Attribute {
#define PYEV_NAME(name) name,
    PYEV_STREAM_NAMES(PYEV_NAME)
#undef PYEV_NAME
    count,
};
// clang-format on

// What came of doing something natively. Unusual: nothing was done, it is Python's.
enum class Served { kDone, kWaits, kUnusual, kFailed };

// A class whose methods are known, and whether they still are what they were.
class KnownClass {
 public:
    KnownClass() = default;
    KnownClass(const KnownClass&) = delete;

    // `names`: the methods, up to null. Those of asyncio's must be its own, as they came.
    [[nodiscard]] bool learn(PyObject* type, const char* const* names, PyObject* module,
                             KnownClass* base = nullptr);
    bool is_type_of(PyObject* object) const {
        return reinterpret_cast<PyObject*>(Py_TYPE(object)) == type_.get();
    }
    // CPython gives a class another version whenever something in it or above it changes.
    bool untouched() {
        unsigned version = reinterpret_cast<PyTypeObject*>(type_.get())->tp_version_tag;
        return (version && version == untouched_) || look();
    }
    // Calls the method that a class above has now, whoever has put it there, as super() does. Null:
    // an exception is set.
    PyObject* call_super(size_t index, PyObject* self, PyObject* const* values, Py_ssize_t count,
                         PyObject* names = nullptr) const;
    PyObject* type() const { return type_.get(); }
    // The method at this place of `names`, as it was.
    PyObject* method(size_t index) const { return methods_[index].get(); }
    size_t size() const { return size_; }
    PyObject* name(size_t index) const { return names_[index].get(); }

    template <class F>
    void each_ref(F f) {
        f(type_);
        for (size_t i = 0; i < size_; ++i) f(names_[i]), f(methods_[i]);
    }

 private:
    static constexpr size_t kMost = 16;  // methods

    bool look();

    py::Ref type_;
    std::array<py::Ref, kMost> names_, methods_;
    size_t size_ = 0;
    KnownClass* base_ = nullptr;
    py::Atomic<unsigned> untouched_ = 0, touched_ = 0;  // versions that were looked at
    bool known_ = false;                                // all methods were found as they should be
};

// What all streams of an interpreter share.
class Streams {
 public:
    [[nodiscard]] bool init(PyObject* module);
    bool ready() const { return static_cast<bool>(call); }
    template <class F>
    void each_ref(F f) {
        for (auto& name : names) f(name);
        for (KnownClass* known : {&reader, &native_reader, &protocol, &writer, &native_writer})
            known->each_ref(f);
        for (py::Ref* ref : {&call, &future, &incomplete_read, &limit_overrun}) f(*ref);
    }

    PyTypeObject* future_type() const { return reinterpret_cast<PyTypeObject*>(future.get()); }
    PyObject* name(Attribute attribute) const {
        return names[static_cast<size_t>(attribute)].get();
    }

    // Of an object of a type of ours, or of a subclass. Null: an exception is set.
    static Streams* of(PyObject* object);

    // Places in the lists of methods: a reader's, and a writer's. The first ones of a reader are
    // those that StreamCall has a kind for.
    enum Method : size_t { kFeedData = 7, kAtEof = 10, kWrite = 0, kWritelines, kDrain };

    // Whether `protocol` is a StreamReaderProtocol and nothing else: feed() is worth a try.
    bool feeds(PyObject* object) const { return protocol.is_type_of(object); }
    // What protocol.data_received(data) does; kDone, kUnusual or kFailed.
    Served feed(PyObject* protocol, const char* data, size_t size);
    // What reader.feed_data(data) does.
    Served feed_reader(PyObject* reader, const char* data, size_t size);
    // Makes the reader of a StreamReaderProtocol, when it is asyncio's, one of ours.
    [[nodiscard]] bool adopt(PyObject* protocol);

    std::array<py::Ref, static_cast<size_t>(Attribute::count)> names;
    KnownClass reader, protocol, writer;      // asyncio's
    KnownClass native_reader, native_writer;  // ours
    py::Ref call;                             // the type of what our methods return
    py::Ref future;                           // asyncio.Future
    py::Ref incomplete_read, limit_overrun;   // exceptions
};

// The attributes of an object of a known class.
class Attributes {
 public:
    Attributes(const Streams& streams, PyObject* object)
        : streams_(streams), dict_(py::Ref::steal(PyObject_GenericGetDict(object, nullptr))) {
        if (!dict_) PyErr_Clear();
    }

    explicit operator bool() const { return static_cast<bool>(dict_); }
    Py_ssize_t size() const { return PyDict_GET_SIZE(dict_.get()); }
    // Null: there is none.
    py::Found get(Attribute attribute) const { return get(streams_.name(attribute)); }
    py::Found get(PyObject* name) const { return py::find(dict_.get(), name); }
    [[nodiscard]] bool set(Attribute attribute, PyObject* value) {
        return PyDict_SetItem(dict_.get(), streams_.name(attribute), value) == 0;
    }

 protected:
    const Streams& streams_;
    py::Ref dict_;
};

// A StreamReader, ours or asyncio's own. It is looked at once: where Python code runs, it is to be
// looked at again.
class ReaderAttributes : public Attributes {
 public:
    ReaderAttributes(Streams& streams, PyObject* reader);

    // Whether it can be served natively: nothing about it is out of the ordinary.
    bool plain() const { return static_cast<bool>(buffer_); }
    // More may come; no: the end has, or who knows what.
    bool open() const { return get(Attribute::_eof) == Py_False; }
    bool ended() const { return get(Attribute::_eof) == Py_True; }
    bool failed() const { return get(Attribute::_exception) != Py_None; }
    bool waited_for() const { return get(Attribute::_waiter) != Py_None; }
    size_t limit() const { return limit_; }
    // To be locked, while its bytes are looked at.
    PyObject* buffer() const { return buffer_.get(); }
    const char* data() const { return PyByteArray_AS_STRING(buffer_.get()); }
    size_t buffered() const { return static_cast<size_t>(PyByteArray_GET_SIZE(buffer_.get())); }

    // Takes that much from the buffer, and lets the transport go on when little is left.
    [[nodiscard]] bool take(size_t size, py::Ref& bytes) { return copy(size, bytes) && drop(size); }
    [[nodiscard]] bool drop(size_t size);
    // Takes everything, at the end.
    [[nodiscard]] bool take_all(py::Ref& bytes);
    // Adds to the buffer, wakes who waits, and holds the transport back when it is too much.
    Served append(const char* data, size_t size);
    // A future, kept as what is waited for; the transport goes on.
    py::Ref make_waiter();

 private:
    [[nodiscard]] bool find();
    [[nodiscard]] bool copy(size_t size, py::Ref& bytes);
    [[nodiscard]] bool resume();
    [[nodiscard]] bool wake(PyObject* waiter);
    [[nodiscard]] bool pause();

    py::Ref buffer_;  // a bytearray; empty: see plain()
    size_t limit_ = 0;
    bool paused_ = false;
};

// A method of the reader's or the writer's type, whose arguments may be named.
inline PyMethodDef stream_method(const char* name,
                                 PyObject* (*function)(PyObject*, PyObject* const*, Py_ssize_t,
                                                       PyObject*),
                                 const char* doc) {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)),
            METH_FASTCALL | METH_KEYWORDS, doc};
}

}  // namespace pyev::net
