// The functions of the module.
#pragma once

#include <Python.h>

namespace pyev::ev {

extern PyMethodDef functions[];

// For os.register_at_fork: in the child, every loop is to make its kernel objects anew.
extern PyMethodDef after_fork_function;

}  // namespace pyev::ev
