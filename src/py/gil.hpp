// Other threads of Python.
#pragma once

#include <Python.h>

namespace pyev::py {

// Whether nobody can be waiting for the GIL: no other thread has a thread state, in any
// interpreter. One that comes is seen by the next question.
inline bool only_thread() {
    PyInterpreterState* interpreter = PyInterpreterState_Head();
    PyThreadState* thread = PyInterpreterState_ThreadHead(interpreter);
    return !PyInterpreterState_Next(interpreter) && !PyThreadState_Next(thread);
}

}  // namespace pyev::py
