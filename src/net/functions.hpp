// The module's functions that make transports, for the Python half of the event loop.
#pragma once

#include <Python.h>

namespace pyev::net {

extern PyMethodDef functions[];

}  // namespace pyev::net
