/*
 * memory.c - the heap memory that the library keeps. Blocks are 64-byte aligned (a cache
 * line, and the widest vector register) on top of whatever the allocator returns:
 * a block is over-allocated and the pointer to give back stands just before it.
 */
#include "base/os.h"

#include <stdlib.h>

#define ALIGNMENT ((size_t)64)
#define OVERHEAD (ALIGNMENT - 1 + sizeof(void *))

static rv_allocator custom; /* malloc and free while custom.alloc is NULL */

void rv_set_allocator(const rv_allocator *allocator) {
    custom = allocator ? *allocator : (rv_allocator){NULL, NULL, NULL};
}

/* Blocks from here on are read row by row at random places, where small pages cost a
 * walk through the page table each; below, little would be gained. */
#define LARGE_BYTES ((size_t)4 << 20)

static void *from_system(size_t bytes, bool zero) {
    void *raw = zero ? calloc(1, bytes) : malloc(bytes);
    if (raw && bytes >= LARGE_BYTES) rvb_os_want_large_pages(raw, bytes);
    return raw;
}

static bool block_bytes(size_t n, size_t size, size_t *out) {
    size_t bytes;
    return rvb_mul(n, size, &bytes) && rvb_add(bytes, OVERHEAD, out);
}

static void *align(void *raw) {
    if (!raw) return NULL;
    uintptr_t first = (uintptr_t)raw + sizeof(void *);
    size_t skip = sizeof(void *) + (size_t)(-first & (ALIGNMENT - 1));
    char *memory = (char *)raw + skip;
    memcpy(memory - sizeof raw, &raw, sizeof raw);
    return memory;
}

void *rvb_alloc(size_t n, size_t size) {
    size_t bytes;
    if (!block_bytes(n, size, &bytes)) return NULL;
    return align(custom.alloc ? custom.alloc(custom.ctx, bytes)
                              : from_system(bytes, false));
}

void *rvb_alloc_zero(size_t n, size_t size) {
    size_t bytes;
    /* calloc takes large blocks from the system untouched: pages stay unused
     * until they are written. */
    if (!custom.alloc)
        return block_bytes(n, size, &bytes) ? align(from_system(bytes, true)) : NULL;
    void *memory = rvb_alloc(n, size);
    if (memory) memset(memory, 0, n * size);
    return memory;
}

void rvb_free(void *memory) {
    if (!memory) return;
    void *raw;
    memcpy(&raw, (char *)memory - sizeof raw, sizeof raw);
    if (custom.alloc) {
        custom.release(custom.ctx, raw);
    } else {
        free(raw);
    }
}
