// Socket addresses, between the kernel's form and Python's.
#include "net/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <charconv>
#include <cstddef>

namespace pyev::net {

using py::Ref;

bool Address::known() const {
    return size == 0 || any.sa_family == AF_INET || any.sa_family == AF_INET6 ||
           any.sa_family == AF_UNIX;
}

static Ref unix_path(const Address& address) {
    constexpr socklen_t start = offsetof(sockaddr_un, sun_path);
    const char* path = address.longest.sun_path;
    Py_ssize_t size = address.size > start ? address.size - start : 0;
    if (size && path[0] == 0) return Ref::steal(PyBytes_FromStringAndSize(path, size));
    return Ref::steal(PyUnicode_DecodeFSDefaultAndSize(
        path, static_cast<Py_ssize_t>(strnlen(path, static_cast<size_t>(size)))));
}

// As Py_BuildValue() and inet_ntop() would, which take three times as long, for each datagram.
static Ref inet_pair(const sockaddr_in& address) {
    char text[INET_ADDRSTRLEN], *end = text;
    auto* bytes = reinterpret_cast<const unsigned char*>(&address.sin_addr);
    for (int i = 0; i < 4; ++i) {
        end = std::to_chars(end, end + 3, bytes[i]).ptr;
        *end++ = '.';
    }
    Ref host = Ref::steal(PyUnicode_FromStringAndSize(text, end - text - 1));
    Ref port = Ref::steal(PyLong_FromLong(ntohs(address.sin_port)));
    return host && port ? Ref::steal(PyTuple_Pack(2, host.get(), port.get())) : Ref();
}

Ref to_python(const Address& address) {
    if (address.size == 0) return Ref::none();
    if (address.any.sa_family == AF_UNIX) return unix_path(address);
    if (address.any.sa_family == AF_INET)
        return inet_pair(*reinterpret_cast<const sockaddr_in*>(&address.any));
    char host[INET6_ADDRSTRLEN];
    auto* in6 = reinterpret_cast<const sockaddr_in6*>(&address.any);
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    return Ref::steal(Py_BuildValue("(siII)", host, ntohs(in6->sin6_port),
                                    ntohl(in6->sin6_flowinfo), in6->sin6_scope_id));
}

// An int within `most`, without any conversion.
static bool plain_int(PyObject* object, unsigned long most, unsigned long& result) {
    if (!PyLong_CheckExact(object)) return false;
    result = PyLong_AsUnsignedLong(object);
    if (result <= most && !PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
}

bool from_python(PyObject* tuple, int family, Address& address) {
    if (!PyTuple_CheckExact(tuple)) return false;
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    if (size < 2 || size > (family == AF_INET6 ? 4 : 2)) return false;
    unsigned long port, flow = 0, scope = 0;
    PyObject* name = PyTuple_GET_ITEM(tuple, 0);
    if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_COMPACT_ASCII(name)) return false;
    const char* host = reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(name));
    if (strlen(host) != static_cast<size_t>(PyUnicode_GET_LENGTH(name))) return false;
    if (!plain_int(PyTuple_GET_ITEM(tuple, 1), 0xffff, port)) return false;
    if (family == AF_INET) {
        auto* in = reinterpret_cast<sockaddr_in*>(&address.any);
        *in = {};
        in->sin_family = AF_INET;
        in->sin_port = htons(static_cast<uint16_t>(port));
        address.size = sizeof *in;
        return inet_pton(AF_INET, host, &in->sin_addr) == 1;
    }
    if (family != AF_INET6) return false;
    if (size > 2 && !plain_int(PyTuple_GET_ITEM(tuple, 2), 0xfffff, flow)) return false;
    if (size > 3 && !plain_int(PyTuple_GET_ITEM(tuple, 3), 0xffffffff, scope)) return false;
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&address.any);
    *in6 = {};
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(static_cast<uint16_t>(port));
    in6->sin6_flowinfo = htonl(static_cast<uint32_t>(flow));
    in6->sin6_scope_id = static_cast<uint32_t>(scope);
    address.size = sizeof *in6;
    return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
}

}  // namespace pyev::net
