// What is known of names without asking anybody: numeric addresses.
//
// socket.getaddrinfo() has one answer for a numeric host, a number as port and no flags that ask
// about this machine, so the last ones are kept: a client that connects to the same few servers
// asks for them again and again. One for each event loop, used in its thread.
#pragma once

#include <Python.h>

#include "aio/sock.hpp"
#include "py/args.hpp"
#include "py/ref.hpp"

namespace pyev::aio {

class Names {
 public:
    Names() = default;
    Names(const Names&) = delete;
    ~Names();

    // What socket.getaddrinfo(*args) returns, a list of the caller's own. Empty and no exception:
    // that takes the ordinary way, which knows whom to ask and what is wrong.
    py::Ref look_up(const Sockets& sockets, py::Args args);

 private:
    struct Question {
        PyObject* host;
        long port;
        int numbers[4];  // family, type, proto, flags
    };
    struct Answer {
        py::Ref host, list;
        Question question;  // its host is `host`
    };

    static bool parse(py::Args args, Question& question);
    static bool same(const Question& a, const Question& b);
    Answer* place(const Question& question);

    Answer* answers_ = nullptr;  // each at the place that its question's hash says
};

}  // namespace pyev::aio
