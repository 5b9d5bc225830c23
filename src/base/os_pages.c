/*
 * os_pages.c - large pages. By itself because memory.c needs it and the other files of
 * the operating systems allocate.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "base/os.h"

#ifndef _WIN32
#include <sys/mman.h>
#include <unistd.h>
#endif

/* macOS has no such request, and Windows has a privilege for it that ordinary processes
 * lack. */
void rvb_os_want_large_pages(void *memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)memory + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)memory + bytes) / page * page;
    if (first < end) (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}
