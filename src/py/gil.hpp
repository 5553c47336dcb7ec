// Other threads of Python.
#pragma once

#include <Python.h>

#include "py/compat.hpp"

namespace pyev::py {

// Whether nobody can be waiting for the GIL: no other thread has a thread state, in any
// interpreter. One that comes is seen by the next question. Without a GIL the list of threads may
// change under whoever looks.
inline bool only_thread() {
    if constexpr (!kHasGil) return false;
    PyInterpreterState* interpreter = PyInterpreterState_Head();
    PyThreadState* thread = PyInterpreterState_ThreadHead(interpreter);
    return !PyInterpreterState_Next(interpreter) && !PyThreadState_Next(thread);
}

}  // namespace pyev::py
