// The methods of StreamReader.
#include "net/stream_reader.hpp"

#include "net/stream_call.hpp"
#include "net/streams.hpp"

namespace pyev::net {

using py::Ref;

// Whether it is one of ours and no subclass, and asyncio's methods are what they were: otherwise
// asyncio's are called as they are now.
static bool served(Streams& streams, PyObject* self) {
    return streams.native_reader.is_type_of(self) && streams.reader.untouched();
}

// The one argument that may be given, by position or as `name`; `wanted` says whether it will do.
template <class F>
static bool one(PyObject* const* values, Py_ssize_t count, PyObject* names, const char* name,
                F wanted) {
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (count + named != 1) return false;
    return (!named || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), name) == 0) &&
           wanted(values[0]);
}

template <StreamCall::Kind K>
static PyObject* read_size(PyObject* self, PyObject* const* values, Py_ssize_t count,
                           PyObject* names) {
    Streams* streams = Streams::of(self);
    if (!streams) return nullptr;
    Py_ssize_t size = -1;
    bool usual = one(values, count, names, "n", [&](PyObject* given) {
        if (PyLong_CheckExact(given)) size = PyLong_AsSsize_t(given);
        if (size < 0) PyErr_Clear();
        return size >= 0;
    });
    if (!usual || !served(*streams, self))
        return streams->native_reader.call_super(static_cast<size_t>(K), self, values, count,
                                                 names);
    return StreamCall::make(*streams, self, K, size).release();
}

static PyObject* read_until(PyObject* self, PyObject* const* values, Py_ssize_t count,
                            PyObject* names) {
    Streams* streams = Streams::of(self);
    if (!streams) return nullptr;
    bool usual = one(values, count, names, "separator", [](PyObject* given) {
        return PyBytes_CheckExact(given) && PyBytes_GET_SIZE(given);
    });
    if (!usual || !served(*streams, self))
        return streams->native_reader.call_super(static_cast<size_t>(StreamCall::Kind::kUntil),
                                                 self, values, count, names);
    return StreamCall::make(*streams, self, StreamCall::Kind::kUntil, 0, values[0]).release();
}

template <StreamCall::Kind K>
static PyObject* read_line(PyObject* self) {
    Streams* streams = Streams::of(self);
    if (!streams) return nullptr;
    if (!served(*streams, self))
        return streams->native_reader.call_super(static_cast<size_t>(K), self, nullptr, 0);
    return StreamCall::make(*streams, self, K).release();
}

static PyObject* feed_data(PyObject* self, PyObject* const* values, Py_ssize_t count,
                           PyObject* names) {
    Streams* streams = Streams::of(self);
    if (!streams) return nullptr;
    Served outcome = Served::kUnusual;
    if (count == 1 && !names && PyBytes_CheckExact(values[0]) && served(*streams, self))
        outcome = streams->feed_reader(self, PyBytes_AS_STRING(values[0]),
                                       static_cast<size_t>(PyBytes_GET_SIZE(values[0])));
    if (outcome == Served::kUnusual)
        return streams->native_reader.call_super(Streams::kFeedData, self, values, count, names);
    return outcome == Served::kDone ? Py_NewRef(Py_None) : nullptr;
}

static PyObject* at_eof(PyObject* self, PyObject*) {
    Streams* streams = Streams::of(self);
    if (!streams) return nullptr;
    ReaderAttributes reader(*streams, self);
    if (!served(*streams, self) || !reader.plain() || (!reader.open() && !reader.ended()))
        return streams->native_reader.call_super(Streams::kAtEof, self, nullptr, 0);
    return PyBool_FromLong(reader.ended() && !reader.buffered());
}

static PyMethodDef methods[] = {
    stream_method("read", read_size<StreamCall::Kind::kRead>,
                  R"(read($self, n=-1)
--

Read up to n bytes, as soon as there are any; all until the end when n is -1.
b"" at the end. asyncio: StreamReader.read.)"),
    stream_method("readexactly", read_size<StreamCall::Kind::kExactly>,
                  R"(readexactly($self, n)
--

Read exactly n bytes.

Raises IncompleteReadError when the end comes before; its `partial` has what there was.
asyncio: StreamReader.readexactly.)"),
    stream_method("readuntil", read_until,
                  R"(readuntil($self, separator=b'\n')
--

Read until a separator, which is returned too.

Raises IncompleteReadError when the end comes before, and LimitOverrunError when the limit is
passed; the data is left then. asyncio: StreamReader.readuntil.)"),
    {"readline", [](PyObject* self, PyObject*) { return read_line<StreamCall::Kind::kLine>(self); },
     METH_NOARGS, R"(readline($self)
--

Read a line, with its b"\n"; what there is when the end comes before, and b"" at the end.

Raises ValueError for a line that is longer than the limit. asyncio: StreamReader.readline.)"},
    stream_method("feed_data", feed_data, R"(feed_data($self, data)
--

Put bytes into the buffer, and wake whoever waits for them. asyncio: StreamReader.feed_data.)"),
    {"at_eof", at_eof, METH_NOARGS, R"(at_eof($self)
--

Whether all has been read that will ever come. asyncio: StreamReader.at_eof.)"},
    {nullptr, nullptr, 0, nullptr},
};

static constexpr const char* kDoc = R"(StreamReader(limit=65536, loop=None)
--

asyncio's StreamReader; what reads in it is native.

A subclass with asyncio's attributes and nothing else. What its methods return is a coroutine made
natively.)";

Ref make_stream_reader(PyObject* module, PyObject* base) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char*>(kDoc)},
        {Py_tp_methods, methods},
        {Py_am_anext, reinterpret_cast<void*>(read_line<StreamCall::Kind::kNext>)},
        {0, nullptr},
    };
    PyType_Spec spec = {"pyev.StreamReader", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
    return Ref::steal(PyType_FromModuleAndSpec(module, &spec, base));
}

}  // namespace pyev::net
