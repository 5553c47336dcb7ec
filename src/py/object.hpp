// A Python object is a head and, behind it, an ordinary C++ value with constructor and destructor.
//
// The head stays outside the value, because a constructor may wipe the bytes it is built on,
// reference count included. A type T says what it is in `static const TypeInfo kType`, lists its
// references in `each_ref`, and gets tp_new, tp_init, vectorcall, tp_traverse, tp_clear and
// tp_dealloc from here. What T provides:
//
//   template <class F> void each_ref(F f)   calls f(Ref&) for every reference it owns
//   bool init(Args)                         __init__, which may run more than once
//   void stop_for_clear()                   lets go of libev and descriptors, runs no Python code
//   bool unfinished() const                 whether dropping it now deserves finalize()
//   void finalize()                         the last words of an object dropped while unfinished
//   Ref repr()
//   bool lock(Lock&, bool waits)            see py/lock.hpp; only where objects of T need one
//
// A T whose objects are called has `static PyObject* call(...)` in vectorcall's shape, and begins
// with a vectorcallfunc that points to it.
#pragma once

#include <Python.h>
#include <structmember.h>

#include <cstddef>
#include <initializer_list>
#include <new>
#include <type_traits>

#include "py/args.hpp"
#include "py/lock.hpp"
#include "py/ref.hpp"

namespace pyev::py {

struct Head {
    PyObject_HEAD
    PyObject* weakrefs;
};

// A type whose Python base class brings attributes of its own has its own head: T::Head.
template <class T>
struct HeadOf {
    using Type = Head;
};
template <class T>
    requires requires { typename T::Head; }
struct HeadOf<T> {
    using Type = typename T::Head;
};

template <class T>
T* value_of(PyObject* self) {
    constexpr size_t size = sizeof(typename HeadOf<T>::Type);
    static_assert(size % alignof(T) == 0);
    return reinterpret_cast<T*>(reinterpret_cast<char*>(self) + size);
}

// Borrowed. `value` is the first (base) part of what lies behind the head.
template <class T>
PyObject* object_of(T* value) {
    constexpr size_t size = sizeof(typename HeadOf<T>::Type);
    return reinterpret_cast<PyObject*>(reinterpret_cast<char*>(value) - size);
}

struct TypeInfo {
    const char* name;
    const char* doc;
    PyMethodDef* methods;
    PyGetSetDef* getset;
    const PyType_Slot* extra = nullptr;  // more slots, up to one of 0
};

template <class T>
struct Slots {
    static PyObject* create(PyTypeObject* type, PyObject*, PyObject*) {
        PyObject* self = type->tp_alloc(type, 0);
        if (self) new (value_of<T>(self)) T();
        return self;
    }

    static int init(PyObject* self, PyObject* tuple, PyObject* dict) {
        T* value = value_of<T>(self);
        Locked locked(value);
        if (!locked) return -1;
        return with_tuple(tuple, dict, [&](Args args) { return value->init(args); });
    }

    // type(...) without a tuple or a dictionary; subclasses take the two slots above.
    static PyObject* vectorcall(PyObject* type, PyObject* const* values, size_t count,
                                PyObject* names) {
        Ref self = Ref::steal(create(reinterpret_cast<PyTypeObject*>(type), nullptr, nullptr));
        if (!self) return nullptr;
        if (!value_of<T>(self.get())->init(Args{values, PyVectorcall_NARGS(count), names}))
            return nullptr;
        return self.release();
    }

    static int traverse(PyObject* self, visitproc visit, void* arg) {
        Py_VISIT(Py_TYPE(self));
        int result = 0;
        T* value = value_of<T>(self);
        value->each_ref([&](Ref& ref) {
            if (result == 0 && ref) result = visit(ref.get(), arg);
        });
        // Containers of references that `stop_for_clear` empties.
        if constexpr (requires { value->visit([](PyObject*) { return 0; }); }) {
            if (result == 0)
                result = value->visit([&](PyObject* object) { return visit(object, arg); });
        }
        return result;
    }

    static int clear(PyObject* self) {
        T* value = value_of<T>(self);
        Locked locked(value, true);
        value->stop_for_clear();
        value->each_ref([](Ref& ref) { ref = Ref(); });
        return 0;
    }

    static void finalize(PyObject* self) {
        T* value = value_of<T>(self);
        Locked locked(value, true);
        if (value->unfinished()) value->finalize();
    }

    static void dealloc(PyObject* self) {
        if (value_of<T>(self)->unfinished() && PyObject_CallFinalizerFromDealloc(self) < 0) return;
        PyObject_GC_UnTrack(self);
        if constexpr (requires(T* value) { value->get_data(); }) {
            // They may be a long chain, each the next one's data: CPython ends those one by one,
            // where the stack would not do. From Python 3.14 on it sees to that by itself.
            Py_TRASHCAN_BEGIN(self, dealloc);
            end(self);
            Py_TRASHCAN_END;
        } else {
            end(self);
        }
    }

    static void end(PyObject* self) {
        PyTypeObject* type = Py_TYPE(self);
        T* value = value_of<T>(self);
        if (!kHasGil || reinterpret_cast<typename HeadOf<T>::Type*>(self)->weakrefs)
            PyObject_ClearWeakRefs(self);
        {
            Locked locked(value, true);
            value->stop_for_clear();
            value->~T();
        }
        type->tp_free(self);
        Py_DECREF(type);
    }

    // What may be read in any thread sees to that itself.
    static PyObject* repr(PyObject* self) {
        T* value = value_of<T>(self);
        if constexpr (requires { value->fields(); }) return value->repr().release();
        Locked locked(value, true);
        return value->repr().release();
    }
};

// Whether `object` is a T; only for a Closed type, which has no subclasses.
template <class T>
bool is(PyObject* object) {
    return Py_TYPE(object)->tp_dealloc == Slots<T>::dealloc;
}

template <class H>
PyMemberDef* members() {
    static PyMemberDef rows[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(H, weakrefs), READONLY, nullptr},
        {nullptr, 0, 0, 0, nullptr},
        {nullptr, 0, 0, 0, nullptr},
    };
    if constexpr (requires(H head) { head.dict; })
        rows[1] = {"__dictoffset__", T_PYSSIZET, offsetof(H, dict), READONLY, nullptr};
    return rows;
}

inline PyMemberDef* callable_members() {
    static PyMemberDef rows[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(Head, weakrefs), READONLY, nullptr},
        {"__vectorcalloffset__", T_PYSSIZET, sizeof(Head), READONLY, nullptr},
        {nullptr, 0, 0, 0, nullptr},
    };
    return rows;
}

// Immutable, so that no object changes its class to one of another layout.
constexpr unsigned kTypeFlags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE;

// T's Python type, as a subclass of `base` when there is one. A Closed one can be neither made nor
// subclassed from Python. `shared` are tables of the base's methods, repeated: CPython specializes
// the call of a method only where the object's own type has it. The type's own rows go first.
template <class T, bool Closed = false>
Ref make_type(PyObject* module, PyObject* base = nullptr,
              std::initializer_list<const PyMethodDef*> shared = {}) {
    const TypeInfo& info = T::kType;
    static PyMethodDef methods[48];
    PyMethodDef* row = methods;
    auto add = [&row](const PyMethodDef* from) {
        for (; from && from->ml_name; ++from) *row++ = *from;
    };
    add(info.methods);
    for (const PyMethodDef* table : shared) add(table);
    using S = Slots<T>;
    constexpr bool called = requires { &T::call; };
    PyType_Slot slots[20] = {
        {Py_tp_doc, const_cast<char*>(info.doc)},
        {Py_tp_methods, methods},
        {Py_tp_getset, info.getset},
        {Py_tp_members, called ? callable_members() : members<typename HeadOf<T>::Type>()},
        {Py_tp_dealloc, reinterpret_cast<void*>(S::dealloc)},
        {Py_tp_traverse, reinterpret_cast<void*>(S::traverse)},
        {Py_tp_clear, reinterpret_cast<void*>(S::clear)},
        {Py_tp_finalize, reinterpret_cast<void*>(S::finalize)},
        {Py_tp_repr, reinterpret_cast<void*>(S::repr)},
    };
    PyType_Slot* next = slots + 9;
    if constexpr (!Closed) {
        *next++ = {Py_tp_new, reinterpret_cast<void*>(S::create)};
        *next++ = {Py_tp_init, reinterpret_cast<void*>(S::init)};
    }
    if (called) *next++ = {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)};
    for (const PyType_Slot* extra = info.extra; extra && extra->slot; ++extra) *next++ = *extra;
    constexpr unsigned flags = (Closed ? Py_TPFLAGS_DISALLOW_INSTANTIATION : Py_TPFLAGS_BASETYPE) |
                               (called ? Py_TPFLAGS_HAVE_VECTORCALL : 0);
    using H = typename HeadOf<T>::Type;
    // Python 3.14 refuses an immutable type whose base is not, as classes made in Python are.
    constexpr unsigned mutability =
        std::is_same_v<H, Head> ? 0 : static_cast<unsigned>(Py_TPFLAGS_IMMUTABLETYPE);
    PyType_Spec spec = {info.name, sizeof(H) + sizeof(T), 0, (kTypeFlags & ~mutability) | flags,
                        slots};
    Ref type = Ref::steal(PyType_FromModuleAndSpec(module, &spec, base));
    if constexpr (!Closed)
        if (type) reinterpret_cast<PyTypeObject*>(type.get())->tp_vectorcall = S::vectorcall;
    return type;
}

// The Python type of a base class that has no instances of its own.
template <class T>
Ref make_abstract_type(PyObject* module) {
    const TypeInfo& info = T::kType;
    PyType_Slot slots[12] = {
        {Py_tp_doc, const_cast<char*>(info.doc)},
        {Py_tp_methods, info.methods},
        {Py_tp_getset, info.getset},
        {Py_tp_members, members<typename HeadOf<T>::Type>()},
        {Py_tp_traverse, reinterpret_cast<void*>(Slots<T>::traverse)},
    };
    PyType_Slot* next = slots + 5;
    for (const PyType_Slot* extra = info.extra; extra && extra->slot; ++extra) *next++ = *extra;
    constexpr unsigned flags = Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION;
    PyType_Spec spec = {info.name, sizeof(Head) + sizeof(T), 0, kTypeFlags | flags, slots};
    return Ref::steal(PyType_FromModuleAndSpec(module, &spec, nullptr));
}

}  // namespace pyev::py
