// pyev.StreamWriter: asyncio's, whose write() and drain() are native.
#pragma once

#include <Python.h>

#include "py/ref.hpp"

namespace pyev::net {

// The Python type, a subclass of asyncio's `base`.
py::Ref make_stream_writer(PyObject* module, PyObject* base);

}  // namespace pyev::net
