// The methods of StreamWriter.
#include "net/stream_writer.hpp"

#include "net/stream_call.hpp"
#include "net/streams.hpp"
#include "py/call.hpp"

namespace pyev::net {

using py::Ref;

// What the transport returns is not passed on, as asyncio has it.
template <Attribute Method, Streams::Method Index>
static PyObject* write(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* names) {
    Streams* streams = Streams::of(self);
    if (!streams) return nullptr;
    if (count != 1 || names || !streams->writer.untouched())
        return streams->native_writer.call_super(Index, self, values, count, names);
    Ref transport = Ref::steal(PyObject_GetAttr(self, streams->name(Attribute::_transport)));
    if (!transport || !py::call_method(transport.get(), streams->name(Method), values[0]))
        return nullptr;
    Py_RETURN_NONE;
}

static PyObject* drain(PyObject* self, PyObject*) {
    Streams* streams = Streams::of(self);
    if (!streams) return nullptr;
    if (!streams->native_writer.is_type_of(self) || !streams->writer.untouched())
        return streams->native_writer.call_super(Streams::kDrain, self, nullptr, 0);
    return StreamCall::make(*streams, self, StreamCall::Kind::kDrain).release();
}

static PyMethodDef methods[] = {
    stream_method("write", write<Attribute::write, Streams::kWrite>, R"(write($self, data)
--

Send bytes, as far as they go now; the rest when they can. asyncio: StreamWriter.write.)"),
    stream_method("writelines", write<Attribute::writelines, Streams::kWritelines>,
                  R"(writelines($self, data)
--

Send an iterable of bytes. asyncio: StreamWriter.writelines.)"),
    {"drain", drain, METH_NOARGS, R"(drain($self)
--

Wait until so much is sent that more may be written.

Raises what ended the connection. asyncio: StreamWriter.drain.)"},
    {nullptr, nullptr, 0, nullptr},
};

static constexpr const char* kDoc = R"(StreamWriter(transport, protocol, reader, loop)
--

asyncio's StreamWriter; its write(), writelines() and drain() are native.

A subclass with asyncio's attributes and nothing else.)";

Ref make_stream_writer(PyObject* module, PyObject* base) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char*>(kDoc)},
        {Py_tp_methods, methods},
        {0, nullptr},
    };
    PyType_Spec spec = {"pyev.StreamWriter", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
    return Ref::steal(PyType_FromModuleAndSpec(module, &spec, base));
}

}  // namespace pyev::net
