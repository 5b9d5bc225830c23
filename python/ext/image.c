/*
 * image.c - MobileNetV3-Small for ruvector.embed, as private functions of the module: a
 * model is a capsule, an image a tuple (buffer, height, width) with that many pixels of
 * three bytes. What users pass is looked at in Python, where errors name it.
 */
#include "rvpy.h"

#include "ruvector/embed.h"

#define MODEL_NAME "ruvector.mobilenet"

static void free_model(PyObject *capsule) {
    rv_mobilenet_free(PyCapsule_GetPointer(capsule, MODEL_NAME));
}

static rv_mobilenet *model_of(PyObject *capsule) {
    return PyCapsule_GetPointer(capsule, MODEL_NAME);
}

/* EmbedError for all that is wrong with a model, its file or an image. */
static PyObject *raise_embed(PyObject *module, const rv_error *error, PyObject *path) {
    const rvpy_state *state = PyModule_GetState(module);
    if (PyErr_Occurred() || error->code == RV_ERR_MEMORY ||
        error->code == RV_ERR_CANCELLED)
        return rvpy_raise(state, error, path);
    PyObject *class = state->error[RVPY_EMBED_ERROR];
    if (path && !error->path[0]) /* else the message names it */
        return PyErr_Format(class, "%S: %s", path, error->message);
    return PyErr_Format(class, "%s", error->message);
}

PyObject *rvpy_mobilenet_load(PyObject *module, PyObject *path) {
    PyObject *bytes = rvpy_path(path, "path");
    if (!bytes) return NULL;
    const char *c_path = PyBytes_AsString(bytes);
    rv_mobilenet *model = NULL;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_mobilenet_load(c_path, &model, &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(bytes);
    if (status != RV_OK) return raise_embed(module, &error, path);
    PyObject *capsule = PyCapsule_New(model, MODEL_NAME, free_model);
    if (!capsule) rv_mobilenet_free(model);
    return capsule;
}

/* ---- images ------------------------------------------------------------------ */

typedef struct image_list {
    Py_ssize_t n;
    rvpy_array *arrays; /* hold the pixels */
    rv_image *images;
} image_list;

static void release_images(image_list *list) {
    for (Py_ssize_t i = 0; list->arrays && i < list->n; i++)
        rvpy_array_release(&list->arrays[i]);
    PyMem_Free(list->arrays);
    PyMem_Free(list->images);
}

/* The library refuses sides beyond its limit; beyond 32 bits they become its largest. */
static uint32_t side_of(Py_ssize_t side) {
    return side < 0 || (uint64_t)side > UINT32_MAX ? UINT32_MAX : (uint32_t)side;
}

static int take_image(PyObject *item, rvpy_array *array, rv_image *out) {
    PyObject *buffer;
    Py_ssize_t height, width;
    if (!PyArg_ParseTuple(item, "Onn", &buffer, &height, &width)) return -1;
    if (rvpy_take_bytes(buffer, "image", array) < 0) return -1;
    *out = (rv_image){array->data, side_of(height), side_of(width)};
    const uint64_t pixels = (uint64_t)out->height * out->width;
    if (pixels <= UINT64_MAX / 3 && pixels * 3 == (uint64_t)array->shape[0]) return 0;
    PyErr_Format(PyExc_ValueError, "image: %zd x %zd x 3 bytes wanted, %zd came", height,
                 width, array->shape[0]);
    return -1;
}

static int take_images(PyObject *items, image_list *out) {
    *out = (image_list){0};
    out->n = PyList_Size(items);
    if (out->n < 0) return -1;
    out->arrays = PyMem_Calloc((size_t)out->n + 1, sizeof *out->arrays);
    out->images = PyMem_Calloc((size_t)out->n + 1, sizeof *out->images);
    int result = out->arrays && out->images ? 0 : -1;
    if (result < 0) PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < out->n && result == 0; i++)
        result = take_image(PyList_GetItem(items, i), &out->arrays[i], &out->images[i]);
    if (result < 0) release_images(out);
    return result;
}

/* ---- running ----------------------------------------------------------------- */

static PyObject *embed(PyObject *module, rv_mobilenet *model, const image_list *list,
                       unsigned threads, PyObject *progress) {
    rvpy_call call;
    rv_error error = {0};
    void *data;
    PyObject *out = rvpy_array_new(RVPY_F32, list->n, RV_MOBILENET_DIM, &data);
    if (!out) return NULL;
    if (rvpy_call_begin(&call, progress) < 0) {
        Py_DECREF(out);
        return NULL;
    }
    rv_status status = rv_mobilenet_embed(model, list->images, (size_t)list->n, threads,
                                          data, &call.progress, &error);
    if (rvpy_call_end(&call, status) == 0) return out;
    Py_DECREF(out);
    return raise_embed(module, &error, NULL);
}

PyObject *rvpy_mobilenet_embed(PyObject *module, PyObject *args) {
    PyObject *capsule, *items, *progress;
    unsigned threads;
    image_list list;
    if (!PyArg_ParseTuple(args, "OOIO", &capsule, &items, &threads, &progress))
        return NULL;
    rv_mobilenet *model = model_of(capsule);
    if (!model || take_images(items, &list) < 0) return NULL;
    PyObject *out = embed(module, model, &list, threads, progress);
    release_images(&list);
    return out;
}

static PyObject *run_stage(rv_mobilenet *model, const rv_image *image, unsigned stage,
                           rv_error *error) {
    uint32_t shape[3];
    void *data;
    if (rv_mobilenet_stage(model, image, stage, NULL, 0, shape, error) != RV_OK)
        return NULL;
    const size_t places = (size_t)shape[0] * shape[1];
    PyObject *out =
        rvpy_array_new(RVPY_F32, (Py_ssize_t)places, (Py_ssize_t)shape[2], &data);
    if (out && rv_mobilenet_stage(model, image, stage, data, places * shape[2], shape,
                                  error) != RV_OK)
        Py_CLEAR(out);
    return out;
}

PyObject *rvpy_mobilenet_stage(PyObject *module, PyObject *args) {
    PyObject *capsule, *item;
    unsigned stage;
    rvpy_array array = {0};
    rv_image image;
    rv_error error = {0};
    if (!PyArg_ParseTuple(args, "OOI", &capsule, &item, &stage)) return NULL;
    rv_mobilenet *model = model_of(capsule);
    if (!model || take_image(item, &array, &image) < 0) {
        rvpy_array_release(&array);
        return NULL;
    }
    PyObject *out = run_stage(model, &image, stage, &error);
    rvpy_array_release(&array);
    return out ? out : raise_embed(module, &error, NULL);
}

PyObject *rvpy_image_prepare(PyObject *module, PyObject *item) {
    rvpy_array array = {0};
    rv_image image;
    rv_error error = {0};
    void *data;
    PyObject *out = NULL;
    if (take_image(item, &array, &image) == 0)
        out = rvpy_array_new(RVPY_F32, RV_IMAGE_PREPARED_FLOATS / 3, 3, &data);
    if (out && rv_image_prepare(&image, data, &error) != RV_OK) {
        Py_CLEAR(out);
        raise_embed(module, &error, NULL);
    }
    rvpy_array_release(&array);
    return out;
}
