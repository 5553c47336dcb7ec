// Numeric addresses.
#include "aio/names.hpp"

#include <arpa/inet.h>
#include <netdb.h>

#include <climits>
#include <cstring>
#include <new>

#include "py/call.hpp"

namespace pyev::aio {

using py::Ref;

static constexpr size_t kAnswers = 32;  // a power of two

Names::~Names() {
    for (size_t i = 0; answers_ && i < kAnswers; ++i) answers_[i].~Answer();
    PyMem_RawFree(answers_);
}

// An exact str of ASCII, so that its bytes are what the socket module sees.
static bool is_plain(PyObject* object) {
    return PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object);
}

// Of a plain text.
static bool is_numeric(PyObject* host) {
    unsigned char address[sizeof(in6_addr)];
    auto* text = reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(host));
    if (std::strlen(text) != static_cast<size_t>(PyUnicode_GET_LENGTH(host))) return false;
    return inet_pton(std::strchr(text, ':') ? AF_INET6 : AF_INET, text, address) == 1;
}

// `port` and the numbers behind it: any int, an enumeration's member too.
static bool to_number(PyObject* object, long most, long& result) {
    if (!PyLong_Check(object)) return false;
    int overflow;
    result = PyLong_AsLongAndOverflow(object, &overflow);
    return !overflow && result >= 0 && result <= most;
}

bool Names::parse(py::Args args, Question& question) {
    static constexpr const char* names[] = {"family", "type", "proto", "flags"};
    if (args.count != 2) return false;
    question = {args.values[0], 0, {}};
    if (!is_plain(question.host) || !PyLong_CheckExact(args.values[1]) ||
        !to_number(args.values[1], 0xffff, question.port))
        return false;
    Py_ssize_t keywords = args.names ? PyTuple_GET_SIZE(args.names) : 0;
    for (Py_ssize_t i = 0; i < keywords; ++i) {
        PyObject* name = PyTuple_GET_ITEM(args.names, i);
        size_t index = 0;
        while (index < 4 && PyUnicode_CompareWithASCIIString(name, names[index]) != 0) ++index;
        long number;
        if (index == 4 || !to_number(args.values[args.count + i], INT_MAX, number)) return false;
        question.numbers[index] = static_cast<int>(number);
    }
    // Other flags ask about this machine.
    return (question.numbers[3] & ~AI_PASSIVE) == 0;
}

bool Names::same(const Question& a, const Question& b) {
    if (a.port != b.port || std::memcmp(a.numbers, b.numbers, sizeof a.numbers) != 0) return false;
    return a.host == b.host || PyUnicode_Compare(a.host, b.host) == 0;
}

// Null: there is no memory, or nothing can be hashed, and no exception.
Names::Answer* Names::place(const Question& question) {
    if (!answers_) {
        answers_ = static_cast<Answer*>(PyMem_RawMalloc(kAnswers * sizeof(Answer)));
        for (size_t i = 0; answers_ && i < kAnswers; ++i) new (&answers_[i]) Answer();
    }
    auto hash = static_cast<size_t>(PyObject_Hash(question.host));
    hash ^= static_cast<size_t>(question.port) * 31;
    hash ^= static_cast<size_t>(question.numbers[0] * 7 + question.numbers[1] * 3);
    return answers_ ? &answers_[(hash ^ (hash >> 17)) & (kAnswers - 1)] : nullptr;
}

Ref Names::look_up(const Sockets& sockets, py::Args args) {
    Question question;
    if (!parse(args, question)) return {};
    // Tests put another function in its place, and other programs too.
    Ref function = Ref::steal(PyObject_GetAttr(sockets.module.get(), sockets.getaddrinfo.get()));
    if (!function) PyErr_Clear();
    if (!function || !PyFunction_Check(function.get()) ||
        PyFunction_GET_GLOBALS(function.get()) != PyModule_GetDict(sockets.module.get()))
        return {};
    Answer* answer = place(question);
    if (!answer) return {};
    if (!answer->list || !same(answer->question, question)) {
        if (!is_numeric(question.host)) return {};
        Ref list = Ref::steal(PyObject_CallFunction(
            function.get(), "Oliiii", question.host, question.port, question.numbers[0],
            question.numbers[1], question.numbers[2], question.numbers[3]));
        // The ordinary way says what is wrong.
        if (!list || !PyList_CheckExact(list.get())) return PyErr_Clear(), Ref();
        answer->host = Ref::borrow(question.host);
        answer->list = list;
        answer->question = question;
    }
    Ref kept = answer->list;
    Ref list = Ref::steal(PyList_GetSlice(kept.get(), 0, PyList_GET_SIZE(kept.get())));
    if (!list) PyErr_Clear();
    return list;
}

}  // namespace pyev::aio
