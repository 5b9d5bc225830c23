/*
 * os_windows.c - Windows 10 and later. Paths arrive as UTF-8 and are handed on as
 * UTF-16; system error codes are told as the errno a POSIX system would give.
 */
#define _CRT_RAND_S /* declares rand_s, the system's random generator */

#include "base/os.h"

#include <assert.h>
#include <errno.h>
#include <process.h>
#include <stdlib.h>

#define TRANSFER_MAX ((size_t)1 << 30)
#define THREAD_STACK_BYTES (2u << 20)

static int errno_of(DWORD code) {
    switch (code) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_BAD_NETPATH:
    case ERROR_INVALID_DRIVE:
        return ENOENT;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION:
    case ERROR_LOCK_VIOLATION:
    case ERROR_USER_MAPPED_FILE:
        return EACCES;
    case ERROR_FILE_EXISTS:
    case ERROR_ALREADY_EXISTS:
        return EEXIST;
    case ERROR_DISK_FULL:
    case ERROR_HANDLE_DISK_FULL:
        return ENOSPC;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_COMMITMENT_LIMIT:
    case ERROR_OUTOFMEMORY:
        return ENOMEM;
    case ERROR_FILENAME_EXCED_RANGE:
        return ENAMETOOLONG;
    case ERROR_TOO_MANY_OPEN_FILES:
        return EMFILE;
    case ERROR_WRITE_PROTECT:
        return EROFS;
    case ERROR_INVALID_NAME:
    case ERROR_NO_UNICODE_TRANSLATION:
    case ERROR_INVALID_PARAMETER:
        return EINVAL;
    default:
        return EIO;
    }
}

static int last_error(void) { return errno_of(GetLastError()); }

static HANDLE handle_of(rvb_fd fd) { return (HANDLE)fd; }

/* ---- threads ------------------------------------------------------------- */

int rvb_mutex_init(rvb_mutex *m) {
    InitializeSRWLock(&m->os);
    return 0;
}
void rvb_mutex_destroy(rvb_mutex *m) { (void)m; }
void rvb_mutex_lock(rvb_mutex *m) { AcquireSRWLockExclusive(&m->os); }
void rvb_mutex_unlock(rvb_mutex *m) { ReleaseSRWLockExclusive(&m->os); }

int rvb_cond_init(rvb_cond *c) {
    InitializeConditionVariable(&c->os);
    return 0;
}
void rvb_cond_destroy(rvb_cond *c) { (void)c; }
void rvb_cond_wait(rvb_cond *c, rvb_mutex *m) {
    SleepConditionVariableSRW(&c->os, &m->os, INFINITE, 0);
}
void rvb_cond_wait_ms(rvb_cond *c, rvb_mutex *m, unsigned ms) {
    SleepConditionVariableSRW(&c->os, &m->os, ms, 0);
}
void rvb_cond_signal(rvb_cond *c) { WakeConditionVariable(&c->os); }
void rvb_cond_broadcast(rvb_cond *c) { WakeAllConditionVariable(&c->os); }

static unsigned __stdcall thread_main(void *ctx) {
    rvb_thread *t = ctx;
    t->run(t->ctx);
    return 0;
}

int rvb_thread_start(rvb_thread *t, void (*run)(void *ctx), void *ctx) {
    t->run = run;
    t->ctx = ctx;
    uintptr_t handle = _beginthreadex(NULL, THREAD_STACK_BYTES, thread_main, t,
                                      STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    t->id = (HANDLE)handle;
    return handle ? 0 : errno;
}

void rvb_thread_join(rvb_thread *t) {
    WaitForSingleObject(t->id, INFINITE);
    CloseHandle(t->id);
}

void rvb_os_yield(void) { (void)SwitchToThread(); }

/* Event loops there wait on handles of their own: rv_completions_wait serves them. */
int rvb_wake_open(rvb_wake *w) {
    *w = (rvb_wake){-1, -1};
    return 0;
}
void rvb_wake_close(rvb_wake *w) { (void)w; }
void rvb_wake_raise(rvb_wake *w) { (void)w; }
void rvb_wake_lower(rvb_wake *w) { (void)w; }

int rvb_on_fork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
    (void)before;
    (void)parent;
    (void)child;
    return 0;
}

/* ---- processors and time ------------------------------------------------- */

unsigned rvb_cpu_count(void) {
    DWORD_PTR allowed = 0, present = 0;
    DWORD all = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    unsigned cpus = 0;
    /* The mask covers one group of up to 64 processors, and is 0 for a process
     * that runs in several. */
    if (GetProcessAffinityMask(GetCurrentProcess(), &allowed, &present)) {
        if (allowed == present) return all > 0 ? (unsigned)all : 1;
        for (; allowed; allowed &= allowed - 1) cpus++;
    }
    return cpus > 0 ? cpus : 1;
}

uint64_t rvb_now_ns(void) {
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    uint64_t t = (uint64_t)ticks.QuadPart, f = (uint64_t)per_second.QuadPart;
    return t / f * UINT64_C(1000000000) + t % f * UINT64_C(1000000000) / f;
}

uint64_t rvb_os_entropy(void) {
    unsigned low, high;
    if (rand_s(&low) == 0 && rand_s(&high) == 0) return (uint64_t)high << 32 | low;
    return rvb_random(rvb_now_ns(), GetCurrentProcessId(), (uint64_t)(uintptr_t)&low);
}

/* ---- paths --------------------------------------------------------------- */

static int widen(const char *path, wchar_t **out) {
    int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    if (length <= 0) return last_error();
    *out = rvb_alloc((size_t)length, sizeof **out);
    if (!*out) return ENOMEM;
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, *out, length);
    return 0;
}

static int narrow(const wchar_t *wide, char **out) {
    int length = WideCharToMultiByte(CP_UTF8, 0, wide, -1, NULL, 0, NULL, NULL);
    if (length <= 0) return last_error();
    *out = rvb_alloc((size_t)length, 1);
    if (!*out) return ENOMEM;
    WideCharToMultiByte(CP_UTF8, 0, wide, -1, *out, length, NULL, NULL);
    return 0;
}

/* CreateFileW that answers with an errno and refuses what is not a file on disk. With
 * `links` 0 a symbolic link is opened itself. */
static int open_file(const wchar_t *wide, DWORD access, DWORD disposition, bool links,
                     HANDLE *out) {
    DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    /* The flag lets a directory be opened, so that it can be told apart. */
    DWORD flags = FILE_ATTRIBUTE_NORMAL | FILE_FLAG_BACKUP_SEMANTICS;
    if (!links) flags |= FILE_FLAG_OPEN_REPARSE_POINT;
    HANDLE h = CreateFileW(wide, access, share, NULL, disposition, flags, NULL);
    if (h == INVALID_HANDLE_VALUE) return last_error();
    BY_HANDLE_FILE_INFORMATION info;
    int failed = 0;
    if (GetFileType(h) != FILE_TYPE_DISK) {
        failed = RVB_NOT_A_FILE;
    } else if (!GetFileInformationByHandle(h, &info)) {
        failed = last_error();
    } else if (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) {
        failed = EISDIR;
    } else if (!links && (info.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT)) {
        failed = ELOOP;
    }
    if (failed) {
        CloseHandle(h);
    } else {
        *out = h;
    }
    return failed;
}

/* ---- reading files ------------------------------------------------------- */

static int open_regular(const char *path, bool links, rvb_fd *fd, uint64_t *size) {
    wchar_t *wide;
    HANDLE h;
    LARGE_INTEGER bytes;
    int failed = widen(path, &wide);
    if (failed) return failed;
    failed = open_file(wide, GENERIC_READ, OPEN_EXISTING, links, &h);
    rvb_free(wide);
    if (failed) return failed;
    if (!GetFileSizeEx(h, &bytes)) {
        failed = last_error();
        CloseHandle(h);
        return failed;
    }
    *size = (uint64_t)bytes.QuadPart;
    *fd = (rvb_fd)h;
    return 0;
}

int rvb_os_open(const char *path, rvb_fd *fd, uint64_t *size) {
    return open_regular(path, true, fd, size);
}

int rvb_os_open_no_link(const char *path, rvb_fd *fd, uint64_t *size) {
    return open_regular(path, false, fd, size);
}

/* Nanoseconds since 1970 of a count of 100 ns since 1601. */
static int64_t since_1970(LARGE_INTEGER time) {
    return (time.QuadPart - INT64_C(116444736000000000)) * 100;
}

int rvb_os_stamp(rvb_fd fd, rvb_stamp *out) {
    BY_HANDLE_FILE_INFORMATION info;
    FILE_BASIC_INFO times;
    if (!GetFileInformationByHandle(handle_of(fd), &info) ||
        !GetFileInformationByHandleEx(handle_of(fd), FileBasicInfo, &times, sizeof times))
        return last_error();
    int64_t modified = since_1970(times.LastWriteTime);
    out->modified_s = modified / 1000000000 - (modified % 1000000000 < 0);
    out->modified_ns = (uint64_t)modified;
    out->changed_ns = (uint64_t)since_1970(times.ChangeTime);
    out->size = (uint64_t)info.nFileSizeHigh << 32 | info.nFileSizeLow;
    out->inode = (uint64_t)info.nFileIndexHigh << 32 | info.nFileIndexLow;
    return 0;
}

#define FILE_TICK_MS 16u /* of the system's clock */

void rvb_stamp_outlast(const rvb_stamp *stamp) {
    FILETIME now;
    GetSystemTimePreciseAsFileTime(&now);
    LARGE_INTEGER t = {.LowPart = now.dwLowDateTime,
                       .HighPart = (LONG)now.dwHighDateTime};
    uint64_t age = (uint64_t)since_1970(t) - stamp->modified_ns;
    if (stamp->modified_ns == stamp->changed_ns && age < FILE_TICK_MS * 1000000u)
        Sleep(FILE_TICK_MS);
}

int rvb_os_read(rvb_fd fd, void *data, size_t size, size_t *got) {
    char *p = data;
    *got = 0;
    while (*got < size) {
        size_t want = size - *got < TRANSFER_MAX ? size - *got : TRANSFER_MAX;
        DWORD n;
        if (!ReadFile(handle_of(fd), p + *got, (DWORD)want, &n, NULL))
            return last_error();
        if (n == 0) break;
        *got += n;
    }
    return 0;
}

int rvb_os_read_at(rvb_fd fd, uint64_t at, void *data, size_t size, size_t *got) {
    char *p = data;
    *got = 0;
    while (*got < size) {
        size_t want = size - *got < TRANSFER_MAX ? size - *got : TRANSFER_MAX;
        OVERLAPPED place = {.Offset = (DWORD)(at + *got),
                            .OffsetHigh = (DWORD)((at + *got) >> 32)};
        DWORD n;
        if (!ReadFile(handle_of(fd), p + *got, (DWORD)want, &n, &place)) {
            if (GetLastError() == ERROR_HANDLE_EOF) break;
            return last_error();
        }
        if (n == 0) break;
        *got += n;
    }
    return 0;
}

bool rvb_os_may_keep(rvb_fd fd) {
    (void)fd;
    return true;
}

int rvb_os_map(rvb_fd fd, size_t size, const uint8_t **data) {
    (void)size; /* the whole file */
    HANDLE section = CreateFileMappingW(handle_of(fd), NULL, PAGE_READONLY, 0, 0, NULL);
    if (!section) return last_error();
    *data = MapViewOfFile(section, FILE_MAP_READ, 0, 0, size);
    int failed = *data ? 0 : last_error();
    CloseHandle(section);
    return failed;
}

void rvb_os_unmap(const uint8_t *data, size_t size) {
    (void)size;
    UnmapViewOfFile(data);
}

/* ---- writing files ------------------------------------------------------- */

size_t rvb_os_directory_length(const char *path) {
    size_t length = strlen(path);
    while (length > 0 && !strchr("/\\:", path[length - 1])) length--;
    return length;
}

/* The path of an open file with all links followed. */
static int final_path(HANDLE h, char **out) {
    DWORD length = GetFinalPathNameByHandleW(h, NULL, 0, 0);
    if (length == 0) return last_error();
    wchar_t *wide = rvb_alloc((size_t)length + 1, sizeof *wide);
    if (!wide) return ENOMEM;
    DWORD got = GetFinalPathNameByHandleW(h, wide, length + 1, 0);
    int failed = got == 0 || got > length ? EIO : narrow(wide, out);
    rvb_free(wide);
    return failed;
}

int rvb_os_target(const char *path, bool follow_links, char **target, int *mode) {
    wchar_t *wide;
    HANDLE h;
    if (!*path) return ENOENT;
    *mode = -1; /* permissions come from the directory */
    int failed = widen(path, &wide);
    if (failed) return failed;
    failed = open_file(wide, FILE_READ_ATTRIBUTES, OPEN_EXISTING, follow_links, &h);
    if (!failed) {
        failed = final_path(h, target);
        CloseHandle(h);
    } else if (failed == ENOENT || (failed == ELOOP && !follow_links)) {
        failed = narrow(wide, target);
    }
    rvb_free(wide);
    return failed;
}

int rvb_os_create(const char *path, int mode, rvb_fd *fd) {
    (void)mode;
    wchar_t *wide;
    HANDLE h;
    int failed = widen(path, &wide);
    if (failed) return failed;
    failed = open_file(wide, GENERIC_WRITE, CREATE_NEW, true, &h);
    rvb_free(wide);
    if (!failed) *fd = (rvb_fd)h;
    return failed;
}

int rvb_os_write(rvb_fd fd, const void *data, size_t size) {
    const char *p = data;
    while (size > 0) {
        DWORD n;
        DWORD want = (DWORD)(size < TRANSFER_MAX ? size : TRANSFER_MAX);
        if (!WriteFile(handle_of(fd), p, want, &n, NULL)) return last_error();
        p += n;
        size -= n;
    }
    return 0;
}

void rvb_os_touch(rvb_fd fd) {
    FILETIME now;
    GetSystemTimePreciseAsFileTime(&now);
    (void)SetFileTime(handle_of(fd), NULL, NULL, &now); /* else it has the coarse one */
}

int rvb_os_sync(rvb_fd fd) { return FlushFileBuffers(handle_of(fd)) ? 0 : last_error(); }

int rvb_os_close(rvb_fd fd) { return CloseHandle(handle_of(fd)) ? 0 : last_error(); }

/* A file that is open cannot be replaced here. Readers and virus scanners have it open
 * for a moment, so a refusal is believed after a second only. */
static int replace_file(const wchar_t *from, const wchar_t *to) {
    const DWORD flags = MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH;
    const uint64_t give_up = rvb_now_ns() + 1000000000;
    for (DWORD ms = 1;; ms = ms < 16 ? 2 * ms : ms) {
        if (MoveFileExW(from, to, flags)) return 0;
        int failed = last_error();
        if (failed != EACCES || rvb_now_ns() >= give_up) return failed;
        Sleep(ms);
    }
}

int rvb_os_rename(const char *from, const char *to) {
    wchar_t *wide_from, *wide_to;
    int failed = widen(from, &wide_from);
    if (failed) return failed;
    failed = widen(to, &wide_to);
    if (!failed) {
        failed = replace_file(wide_from, wide_to);
        rvb_free(wide_to);
    }
    rvb_free(wide_from);
    return failed;
}

int rvb_os_make_directory(const char *path) {
    wchar_t *wide;
    int failed = widen(path, &wide);
    if (failed) return failed;
    if (!CreateDirectoryW(wide, NULL)) failed = last_error();
    rvb_free(wide);
    return failed;
}

bool rvb_os_is_directory(const char *path) {
    wchar_t *wide;
    if (widen(path, &wide) != 0) return false;
    DWORD attributes = GetFileAttributesW(wide);
    rvb_free(wide);
    return attributes != INVALID_FILE_ATTRIBUTES &&
           (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
}

/* MOVEFILE_WRITE_THROUGH does it. */
int rvb_os_open_directory(const char *directory, rvb_fd *fd) {
    (void)directory;
    *fd = RVB_NO_FD;
    return 0;
}

int rvb_os_sync_directory(rvb_fd fd) {
    (void)fd;
    return 0;
}

void rvb_os_unlink(const char *path) {
    wchar_t *wide;
    if (widen(path, &wide) != 0) return;
    DeleteFileW(wide);
    rvb_free(wide);
}
