// A mutex of the whole process: of its interpreters, which may have a GIL each, and over forks.
#pragma once

#include <pthread.h>

#include <mutex>

namespace pyev::py {

// Has whoever forks hold M meanwhile: in the child there is no other thread to give it back.
template <std::mutex& M>
int hold_at_fork() {
    return pthread_atfork([] { M.lock(); }, [] { M.unlock(); }, [] { M.unlock(); });
}

}  // namespace pyev::py
