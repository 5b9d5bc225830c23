/*
 * fuzz_safetensors.c - bytes taken for a safetensors file: what the reader accepts keeps
 * its promises, and the network's loader refuses whatever is not its weights.
 */
#include <stdlib.h>

#include "embed/embed_i.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

static void require(bool holds) {
    if (!holds) abort();
}

/* Ranges that lie in the file, side by side, and names that lead back to them. */
static void use(const rve_tensors *t, const uint8_t *file, size_t size) {
    size_t total = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < t->n; i++) {
        const rve_tensor *item = &t->items[i];
        require(item->data >= file && item->data <= file + size);
        require(item->bytes <= size && item->rank <= RVE_MAX_RANK);
        for (size_t j = 0; j < item->bytes; j++) sum += item->data[j];
        for (size_t j = 0; j < item->name_bytes; j++) sum += (uint8_t)item->name[j];
        total += item->bytes;
        char *name = malloc(item->name_bytes + 1);
        require(name != NULL);
        memcpy(name, item->name, item->name_bytes);
        name[item->name_bytes] = '\0';
        if (strlen(name) == item->name_bytes) require(rve_tensors_find(t, name) == item);
        free(name);
    }
    require(total == size - 8 - rvb_get_u64(file) && sum <= UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *file = malloc(size ? size : 1); /* ends where a sanitizer looks */
    rve_tensors tensors;
    rv_mobilenet *model = NULL;
    require(file != NULL);
    if (size) memcpy(file, data, size);
    rv_status status = rve_tensors_open(file, size, &tensors, NULL);
    require(status == RV_OK || status == RV_ERR_FORMAT);
    if (status == RV_OK) use(&tensors, file, size);
    rve_tensors_close(&tensors);
    require(rv_mobilenet_from_memory(file, size, &model, NULL) == RV_ERR_FORMAT);
    require(model == NULL);
    free(file);
    return 0;
}

/* ---- valid files to start from ------------------------------------------------- */

static const char *const headers[] = {
    "{}",
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}   ",
    "{\"__metadata__\":{\"format\":\"pt\"},\"features.0.0.weight\":{\"dtype\":\"F32\","
    "\"shape\":[2,1,1],\"data_offsets\":[0,8]},\"\\u00e9\\n\":{\"dtype\":\"BF16\","
    "\"shape\":[],\"data_offsets\":[8,10]},\"x\":{\"dtype\":\"I64\",\"shape\":[0,4],"
    "\"data_offsets\":[10,10]}}",
};
static const size_t data_bytes[] = {0, 3, 10};

static void put_length(uint8_t *file, size_t length) {
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)length >> 8 * i);
}

static size_t sample(uint8_t *out, size_t room, unsigned choice) {
    const char *header = headers[choice % 3];
    const size_t n = strlen(header), size = 8 + n + data_bytes[choice % 3];
    if (size > room) return 0;
    memset(out, 7, size);
    put_length(out, n);
    memcpy(out + 8, header, n);
    return size;
}

/* Where the header seems to end: bytes put in or taken out then still leave a header. */
static void repair(uint8_t *data, size_t size) {
    for (size_t at = size; at > 8; at--) {
        if (data[at - 1] != '}') continue;
        put_length(data, at - 8);
        return;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed) {
    if (size < 10 || seed % 64 == 0) {
        const size_t made = sample(data, max_size, seed / 64);
        if (made) return made;
    }
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 4 && size >= 8) repair(data, size);
    return size;
}
