// Socket addresses, between the kernel's form and Python's.
#include "net/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

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

Ref to_python(const Address& address) {
    if (address.size == 0) return Ref::none();
    char host[INET6_ADDRSTRLEN];
    if (address.any.sa_family == AF_UNIX) return unix_path(address);
    if (address.any.sa_family == AF_INET) {
        auto* in = reinterpret_cast<const sockaddr_in*>(&address.any);
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        return Ref::steal(Py_BuildValue("(si)", host, ntohs(in->sin_port)));
    }
    auto* in6 = reinterpret_cast<const sockaddr_in6*>(&address.any);
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    return Ref::steal(Py_BuildValue("(siII)", host, ntohs(in6->sin6_port),
                                    ntohl(in6->sin6_flowinfo), in6->sin6_scope_id));
}

}  // namespace pyev::net
