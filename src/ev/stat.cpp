// Stat: libev's ev_stat.
#include "ev/stat.hpp"

#include <errno.h>

namespace pyev::ev {

using py::Ref;

bool Stat::configure(PyObject* const* lead) {
    double interval = 0;
    PyObject* bytes = nullptr;
    Ref path = Ref::steal(PyOS_FSPath(lead[0]));
    if (!path || !PyUnicode_FSConverter(path.get(), &bytes)) return false;
    Ref encoded = Ref::steal(bytes);
    if (!py::to_double(lead[1], interval)) return false;
    if (!(interval >= 0))
        return py::raise(PyExc_ValueError, "Stat: interval must not be negative or NaN, but is %R",
                         lead[1]);
    if (!inactive()) return false;
    py::publish(fields_, path_, path);
    encoded_ = encoded;
    interval_ = interval;
    ev_stat_set(&ev_, PyBytes_AS_STRING(encoded_.get()), interval);
    looked_ = changed_ = false;
    return true;
}

bool Stat::begin() {
    looked_ = true;
    owner()->descriptors().opening_inotify([&] { ev_stat_start(owner()->ev(), &ev_); });
    return true;
}

void Stat::event(int revents) {
    if (revents & EV_STAT) changed_ = looked_;
    deliver(revents);
}

Ref Stat::stat() {
    ev_stat_stat(owner()->ev(), &ev_);
    int number = errno;
    looked_ = true;
    if (!ev_.attr.st_nlink) return py::raise_errno(number, path_.get());
    return Ref::none();
}

Ref Stat::describe() {
    Ref path = py::read(fields_, path_);
    return Ref::steal(PyUnicode_FromFormat("path=%R", path ? path.get() : Py_None));
}

Ref Stat::get_path() { return path_; }
Ref Stat::get_interval() { return Ref::steal(PyFloat_FromDouble(interval_)); }
Ref Stat::get_attr() { return looked_ ? result(ev_.attr) : Ref::none(); }
Ref Stat::get_previous() { return changed_ ? result(ev_.prev) : Ref::none(); }

static PyObject* seconds(const timespec& time) {
    return PyFloat_FromDouble(static_cast<double>(time.tv_sec) +
                              static_cast<double>(time.tv_nsec) * 1e-9);
}

static PyObject* nanoseconds(const timespec& time) {
    return PyLong_FromLongLong(static_cast<long long>(time.tv_sec) * 1000000000 + time.tv_nsec);
}

Ref Stat::result(const ev_statdata& data) {
    auto* type = reinterpret_cast<PyTypeObject*>(owner()->state().stat_result.get());
    Ref result = Ref::steal(PyStructSequence_New(type));
    if (!result) return {};
#ifdef __APPLE__
    const timespec times[] = {data.st_atimespec, data.st_mtimespec, data.st_ctimespec};
#else
    const timespec times[] = {data.st_atim, data.st_mtim, data.st_ctim};
#endif
    const unsigned long long numbers[] = {data.st_dev,   data.st_rdev, data.st_ino, 0,
                                          data.st_nlink, data.st_mode, data.st_uid, data.st_gid};
    int position = 0;
    auto add = [&](PyObject* item) { PyStructSequence_SetItem(result.get(), position++, item); };
    for (int i = 0; i < 8; ++i)
        add(i == 3 ? PyLong_FromLongLong(data.st_size) : PyLong_FromUnsignedLongLong(numbers[i]));
    for (const timespec& time : times) add(PyLong_FromLongLong(time.tv_sec));
    for (const timespec& time : times) add(seconds(time));
    for (const timespec& time : times) add(nanoseconds(time));
    if (PyErr_Occurred()) return {};
    return result;
}

Ref Stat::make_result_type(PyObject*) {
    static PyStructSequence_Field fields[] = {
        {"dev", "device the file is on"},
        {"rdev", "device the file is, when it is one"},
        {"ino", "inode number"},
        {"size", "bytes"},
        {"nlink", "number of hard links; 0: there is no such file"},
        {"mode", "type and permissions"},
        {"uid", "user ID of the owner"},
        {"gid", "group ID of the owner"},
        {PyStructSequence_UnnamedField, "last access, whole seconds since the epoch"},
        {PyStructSequence_UnnamedField, "last change of the contents, whole seconds"},
        {PyStructSequence_UnnamedField, "last change of the attributes, whole seconds"},
        {"atime", "last access, seconds since the epoch"},
        {"mtime", "last change of the contents, seconds since the epoch"},
        {"ctime", "last change of the attributes, seconds since the epoch"},
        {"atime_ns", "last access, nanoseconds since the epoch"},
        {"mtime_ns", "last change of the contents, nanoseconds since the epoch"},
        {"ctime_ns", "last change of the attributes, nanoseconds since the epoch"},
        {nullptr, nullptr},
    };
    static PyStructSequence_Desc description = {
        "pyev.StatResult",
        "What lstat(2) told of a Stat watcher's path: dev, rdev, ino, size, nlink, mode, uid, "
        "gid,\n"
        "atime, mtime, ctime, as whole numbers; the times by name are floats, in seconds.",
        fields, 11};
    return Ref::steal(reinterpret_cast<PyObject*>(PyStructSequence_NewType(&description)));
}

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", R"(set($self, /, path, interval)
--

Watch another path from the next start() on. Raises Error while active, and as Stat().)"),
    py::noargs<&Stat::stat>("stat", R"(stat($self, /)
--

Look at the file now and store what is found in current.

No callback is called. Raises OSError when the file is missing; current then has nlink 0.
libev manual: ev_stat_stat.)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Stat::get_path>("path",
                             R"(The path as given, str or bytes. Read-only: set() changes it.)"),
    py::get<&Stat::get_interval>(
        "interval", R"(Seconds between looks, as given. Read-only: set() changes it.)"),
    py::get<&Stat::get_attr, py::Guard::kWaits>("attr",
                                                R"(The same as current; libev's name for it.)"),
    py::get<&Stat::get_attr, py::Guard::kWaits>(
        "current", R"(StatResult of the last look, None before the first.)"),
    py::get<&Stat::get_previous, py::Guard::kWaits>(
        "previous", R"(StatResult of the look before the last change, None before there is one.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Stat::kType = {
    kName, R"(Stat(path, interval, loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_STAT) when the attributes of the file at path have changed.

path: str, bytes or os.PathLike; the file need not exist, and better is absolute. interval: seconds
between looks, 0.0 for libev's choice (about 5); an awaited one may leave it out. Where the kernel
has inotify, local files are reported at once. Compare previous and current for what changed. A
symbolic link itself is looked at, not its target.
Raises ValueError for a negative or NaN interval or a NUL in path, TypeError for a wrong type.
libev manual: "ev_stat - did the file attributes just change?".)",
    methods, getset};

}  // namespace pyev::ev
