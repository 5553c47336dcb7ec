// The functions of the module.
#pragma once

#include <Python.h>

namespace pyev::ev {

extern PyMethodDef functions[];

// For os.register_at_fork: what this turn has written is sent; and in the child, every loop is to
// make its kernel objects anew.
extern PyMethodDef before_fork_function;
extern PyMethodDef after_fork_function;

}  // namespace pyev::ev
