// Socket addresses, between the kernel's form and Python's.
#pragma once

#include <Python.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "py/ref.hpp"

namespace pyev::net {

// As much of a sockaddr as the families that are converted here need.
struct Address {
    union {
        sockaddr any;
        sockaddr_un longest;
        char bytes[sizeof(sockaddr_storage)];
    };
    socklen_t size = 0;

    Address() : bytes{} {}
    // Whether to_python() knows the family.
    bool known() const;
    bool operator==(const Address& other) const {
        return size == other.size && std::memcmp(bytes, other.bytes, size) == 0;
    }
};

// What the socket module gives for it: (host, port), (host, port, flowinfo, scope_id), a path, or
// bytes where that is abstract. The family is one of those that are `known`.
py::Ref to_python(const Address& address);

// The sockaddr of a plain tuple with a numeric host and a port, for a socket of `family`. False
// (and no exception): it is something else, and the socket module knows what to make of it.
bool from_python(PyObject* tuple, int family, Address& address);

}  // namespace pyev::net
