// pyev.StreamReader: asyncio's, whose methods that read are native.
//
// It has asyncio's attributes and no others, so a reader that asyncio has made becomes one by a
// change of its class.
#pragma once

#include <Python.h>

#include "py/ref.hpp"

namespace pyev::net {

// The Python type, a subclass of asyncio's `base`.
py::Ref make_stream_reader(PyObject* module, PyObject* base);

}  // namespace pyev::net
