/* Websocket frames (RFC 6455, section 5.2), of which many come and go together: the loops of
 * producer_pool_websocket.frames, compiled.
 *
 * Rule: whatever is not a whole message in one frame is left to the caller. No function here keeps anything, calls
 * back into Python, or looks at an object that somebody else could change meanwhile: they take bytes, and a tuple.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

/* Write *size* bytes of *from*, masked or unmasked by *key*, to *to*. */
static void
mask(char *to, const char *from, Py_ssize_t size, const char *key)
{
    uint32_t four;
    uint64_t eight, some;
    Py_ssize_t at = 0;

    memcpy(&four, key, 4);
    /* The same in either order of bytes. */
    eight = (uint64_t)four << 32 | four;
    for (; size - at >= 8; at += 8) {
        memcpy(&some, from + at, 8);
        some ^= eight;
        memcpy(to + at, &some, 8);
    }
    for (; at < size; at++)
        to[at] = from[at] ^ key[at & 3];
}

PyDoc_STRVAR(read_doc,
"read_messages(data, position, limit, masked)\n--\n\n"
"Return messages of one kind, a whole frame each, and where the first frame begins that is none of them.");

static PyObject *
read_messages(PyObject *module, PyObject *args)
{
    PyObject *data, *messages;
    Py_ssize_t position, limit, size;
    int masked;
    char *bytes;

    if (!PyArg_ParseTuple(args, "Snnp:read_messages", &data, &position, &limit, &masked))
        return NULL;
    if (PyBytes_AsStringAndSize(data, &bytes, &size) < 0)
        return NULL;
    if (position < 0 || position >= size) {
        PyErr_SetString(PyExc_IndexError, "no frame can begin there");
        return NULL;
    }
    messages = PyList_New(0);
    if (messages == NULL)
        return NULL;

    const char first = bytes[position];
    while (size - position >= 2 && bytes[position] == first) {
        const unsigned char *head = (const unsigned char *)bytes + position;
        Py_ssize_t start = 2, length = head[1] & 0x7F;

        if (head[1] >> 7 != masked)
            break;
        if (length == 126) {
            if (size - position < 4)
                break;
            length = (Py_ssize_t)head[2] << 8 | head[3];
            if (length < 126)
                break;
            start = 4;
        }
        else if (length == 127)
            break;
        if (masked)
            start += 4;
        /* None of these can overflow: start and length are small. */
        if (length > limit || size - position < start + length)
            break;

        PyObject *message = PyBytes_FromStringAndSize(masked ? NULL : bytes + position + start, length);
        if (message == NULL)
            goto failed;
        if (masked && length)
            mask(PyBytes_AsString(message), bytes + position + start, length, bytes + position + start - 4);
        int added = PyList_Append(messages, message);
        Py_DECREF(message);
        if (added < 0)
            goto failed;
        position += start + length;
    }
    return Py_BuildValue("Nn", messages, position);

failed:
    Py_DECREF(messages);
    return NULL;
}

PyDoc_STRVAR(write_doc,
"write_messages(first, messages, keys)\n--\n\n"
"Return a frame with that first byte for each of *messages*, masked by its four bytes of *keys*; none: unmasked.");

static PyObject *
write_messages(PyObject *module, PyObject *args)
{
    PyObject *given, *messages, *keys, *frames = NULL;
    Py_ssize_t count, index, keys_size, length, total = 0;
    unsigned char first;
    char *key, *message, *to;

    if (!PyArg_ParseTuple(args, "bOS:write_messages", &first, &given, &keys))
        return NULL;
    if (PyBytes_AsStringAndSize(keys, &key, &keys_size) < 0)
        return NULL;
    /* A tuple of its own, if it is none: nobody can change it. */
    messages = PySequence_Tuple(given);
    if (messages == NULL)
        return NULL;
    count = PyTuple_Size(messages);
    const int masked = keys_size > 0;
    if (masked && keys_size != 4 * count) {
        PyErr_SetString(PyExc_ValueError, "there have to be four bytes of a key for each message");
        goto done;
    }
    for (index = 0; index < count; index++) {
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(messages, index), &message, &length) < 0)
            goto done;
        length += (length < 126 ? 2 : length < 65536 ? 4 : 10) + (masked ? 4 : 0);
        if (length > PY_SSIZE_T_MAX - total) {
            PyErr_NoMemory();
            goto done;
        }
        total += length;
    }
    frames = PyBytes_FromStringAndSize(NULL, total);
    if (frames == NULL)
        goto done;
    to = PyBytes_AsString(frames);
    for (index = 0; index < count; index++) {
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(messages, index), &message, &length) < 0) {
            Py_CLEAR(frames);
            goto done;
        }
        *to++ = (char)first;
        if (length < 126)
            *to++ = (char)(length | (masked ? 0x80 : 0));
        else {
            const int many = length < 65536 ? 2 : 8;
            *to++ = (char)((many == 2 ? 126 : 127) | (masked ? 0x80 : 0));
            for (int shift = 8 * (many - 1); shift >= 0; shift -= 8)
                *to++ = (char)((uint64_t)length >> shift);
        }
        if (masked) {
            memcpy(to, key, 4);
            to += 4;
            mask(to, message, length, key);
            key += 4;
        }
        else
            memcpy(to, message, (size_t)length);
        to += length;
    }

done:
    Py_DECREF(messages);
    return frames;
}

static PyMethodDef functions[] = {
    {"read_messages", read_messages, METH_VARARGS, read_doc},
    {"write_messages", write_messages, METH_VARARGS, write_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_frames",
    .m_doc = "The loops over frames, compiled.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__frames(void)
{
    return PyModuleDef_Init(&definition);
}
