/*
 * os_posix.c - Linux and macOS. Calls that a signal may interrupt are repeated, and
 * transfers are cut to 1 GiB, since macOS refuses more than 2 GiB at once.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define _FILE_OFFSET_BITS 64

#include "base/os.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef __APPLE__
#include <sys/random.h>
#endif

#define TRANSFER_MAX ((size_t)1 << 30)
#define THREAD_STACK_BYTES                                                               \
    ((size_t)2 << 20) /* some systems give as little as 128 KiB                          \
                       */
#define LINKS_MAX 40  /* as the Linux kernel */

/* ---- threads ------------------------------------------------------------- */

/* For calls that fail only when misused. */
static void must(int failed) {
    assert(!failed);
    (void)failed;
}

int rvb_mutex_init(rvb_mutex *m) { return pthread_mutex_init(&m->os, NULL); }
void rvb_mutex_destroy(rvb_mutex *m) { must(pthread_mutex_destroy(&m->os)); }
void rvb_mutex_lock(rvb_mutex *m) { must(pthread_mutex_lock(&m->os)); }
void rvb_mutex_unlock(rvb_mutex *m) { must(pthread_mutex_unlock(&m->os)); }

int rvb_cond_init(rvb_cond *c) {
    pthread_condattr_t attributes;
    int failed = pthread_condattr_init(&attributes);
    if (failed) return failed;
#ifndef __APPLE__
    failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    if (!failed) failed = pthread_cond_init(&c->os, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed;
}

void rvb_cond_destroy(rvb_cond *c) { must(pthread_cond_destroy(&c->os)); }

void rvb_cond_wait(rvb_cond *c, rvb_mutex *m) { must(pthread_cond_wait(&c->os, &m->os)); }

void rvb_cond_wait_ms(rvb_cond *c, rvb_mutex *m, unsigned ms) {
    struct timespec t = {0, 0};
#ifndef __APPLE__
    clock_gettime(CLOCK_MONOTONIC, &t);
#endif
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
#ifdef __APPLE__
    int failed = pthread_cond_timedwait_relative_np(&c->os, &m->os, &t);
#else
    int failed = pthread_cond_timedwait(&c->os, &m->os, &t);
#endif
    must(failed && failed != ETIMEDOUT);
}

void rvb_cond_signal(rvb_cond *c) { must(pthread_cond_signal(&c->os)); }
void rvb_cond_broadcast(rvb_cond *c) { must(pthread_cond_broadcast(&c->os)); }

static void *thread_main(void *ctx) {
    rvb_thread *t = ctx;
    t->run(t->ctx);
    return NULL;
}

int rvb_thread_start(rvb_thread *t, void (*run)(void *ctx), void *ctx) {
    /* A fault's signal, were it blocked, would kill the process past any handler
     * that wants to say where it happened. */
    static const int faults[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                                 SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        sigdelset(&blocked, faults[i]);
    }

    pthread_attr_t attributes;
    int failed = pthread_attr_init(&attributes);
    if (failed) return failed;
    t->run = run;
    t->ctx = ctx;
    failed = pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    if (!failed) {
        pthread_sigmask(SIG_SETMASK, &blocked, &before); /* threads inherit the mask */
        failed = pthread_create(&t->id, &attributes, thread_main, t);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return failed;
}

void rvb_thread_join(rvb_thread *t) { must(pthread_join(t->id, NULL)); }

void rvb_os_yield(void) { (void)sched_yield(); }

int rvb_wake_open(rvb_wake *w) {
    int fd[2];
    if (pipe(fd) != 0) return errno;
    int failed = 0;
    for (int i = 0; i < 2 && !failed; i++)
        if (fcntl(fd[i], F_SETFD, FD_CLOEXEC) != 0 ||
            fcntl(fd[i], F_SETFL, O_NONBLOCK) != 0)
            failed = errno;
    *w = (rvb_wake){fd[0], fd[1]};
    if (failed) rvb_wake_close(w);
    return failed;
}

void rvb_wake_close(rvb_wake *w) {
    close(w->read_fd);
    close(w->write_fd);
}

void rvb_wake_raise(rvb_wake *w) {
    ssize_t written;
    do written = write(w->write_fd, "", 1);
    while (written < 0 && errno == EINTR);
}

void rvb_wake_lower(rvb_wake *w) {
    char byte;
    ssize_t taken;
    do taken = read(w->read_fd, &byte, 1);
    while (taken < 0 && errno == EINTR);
}

int rvb_on_fork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
    return pthread_atfork(before, parent, child);
}

/* ---- processors and time ------------------------------------------------- */

#ifdef __linux__

static unsigned affinity_cpus(void) {
    for (int n = 1024; n <= 1 << 20; n *= 2) { /* grows until the kernel's mask fits */
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        if (!set) return 0;
        size_t size = CPU_ALLOC_SIZE((size_t)n);
        int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        int error = errno;
        CPU_FREE(set);
        if (count > 0) return (unsigned)count;
        if (error != EINVAL) return 0;
    }
    return 0;
}

/* Two decimal numbers, or one of them per file. "max" and -1 stand for no limit. */
static bool read_numbers(const char *path, long long *first, long long *second) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    int n = second ? fscanf(f, "%lld %lld", first, second) : fscanf(f, "%lld", first);
    fclose(f);
    return n == (second ? 2 : 1);
}

/* The tightest quota on the way from group `path` up to the root of `mount`. */
static unsigned quota_cpus(const char *mount, const char *path, bool version1) {
    char group[PATH_MAX], file[PATH_MAX + 32];
    unsigned least = 0;
    if (snprintf(group, sizeof group, "%s%s%s", mount, version1 ? "/cpu" : "", path) >=
        (int)sizeof group) {
        return 0;
    }
    size_t root = strlen(mount) + (version1 ? 4 : 0);
    for (;;) {
        long long quota = 0, period = 0;
        bool known;
        if (version1) {
            snprintf(file, sizeof file, "%s/cpu.cfs_quota_us", group);
            known = read_numbers(file, &quota, NULL);
            snprintf(file, sizeof file, "%s/cpu.cfs_period_us", group);
            known = known && read_numbers(file, &period, NULL);
        } else {
            snprintf(file, sizeof file, "%s/cpu.max", group);
            known = read_numbers(file, &quota, &period);
        }
        if (known && quota > 0 && period > 0) {
            long long cpus = quota / period + (quota % period != 0);
            if (cpus < UINT_MAX && (least == 0 || (unsigned)cpus < least)) {
                least = (unsigned)cpus;
            }
        }
        char *slash = strrchr(group, '/');
        if (!slash || (size_t)(slash - group) < root) return least;
        *slash = '\0';
    }
}

unsigned rvb_cgroup_cpus(const char *membership, const char *mount) {
    /* Lines "id:controllers:path"; version 2 has no controllers. */
    char line[PATH_MAX + 256];
    unsigned least = 0;
    FILE *f = fopen(membership, "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        *controllers = ','; /* now ",name,name": each one led by a comma */
        bool version2 = controllers[1] == '\0';
        char *cpu = strstr(controllers, ",cpu");
        while (cpu && cpu[4] != ',' && cpu[4] != '\0') cpu = strstr(cpu + 1, ",cpu");
        if (!version2 && !cpu) continue;
        unsigned cpus = quota_cpus(mount, path, !version2);
        if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
    }
    fclose(f);
    return least;
}

unsigned rvb_cpu_count(void) {
    unsigned cpus = affinity_cpus();
    unsigned quota = rvb_cgroup_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
    if (quota > 0 && (cpus == 0 || quota < cpus)) cpus = quota;
    return cpus > 0 ? cpus : 1;
}

#else

unsigned rvb_cpu_count(void) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus > 0 ? (unsigned)cpus : 1;
}

#endif

uint64_t rvb_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

uint64_t rvb_os_entropy(void) {
    uint64_t value;
    if (getentropy(&value, sizeof value) == 0) return value;
    return rvb_random(rvb_now_ns(), (uint64_t)getpid(), (uint64_t)(uintptr_t)&value);
}

/* ---- reading files ------------------------------------------------------- */

static int kind_of(const struct stat *s) {
    if (S_ISREG(s->st_mode)) return 0;
    return S_ISDIR(s->st_mode) ? EISDIR : RVB_NOT_A_FILE;
}

static int open_retry(const char *path, int flags, mode_t mode, rvb_fd *fd) {
    int got;
    do got = open(path, flags | O_CLOEXEC, mode);
    while (got < 0 && errno == EINTR);
    *fd = got;
    return got < 0 ? errno : 0;
}

static int open_regular(const char *path, int flags, rvb_fd *fd, uint64_t *size) {
    int failed = open_retry(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | flags, 0, fd);
    if (failed) return failed == ENXIO ? RVB_NOT_A_FILE : failed; /* ENXIO: a socket */
    struct stat s;
    failed = fstat((int)*fd, &s) != 0 ? errno : kind_of(&s);
    if (failed) {
        close((int)*fd);
        *fd = RVB_NO_FD;
        return failed;
    }
    *size = (uint64_t)s.st_size;
    return 0;
}

int rvb_os_open(const char *path, rvb_fd *fd, uint64_t *size) {
    return open_regular(path, 0, fd, size);
}

int rvb_os_open_no_link(const char *path, rvb_fd *fd, uint64_t *size) {
    return open_regular(path, O_NOFOLLOW, fd, size);
}

static uint64_t in_ns(struct timespec t) {
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

int rvb_os_stamp(rvb_fd fd, rvb_stamp *out) {
    struct stat s;
    if (fstat((int)fd, &s) != 0) return errno;
#ifdef __APPLE__
    struct timespec modified = s.st_mtimespec, changed = s.st_ctimespec;
#else
    struct timespec modified = s.st_mtim, changed = s.st_ctim;
#endif
    *out = (rvb_stamp){modified.tv_sec, in_ns(modified), in_ns(changed),
                       (uint64_t)s.st_size, (uint64_t)s.st_ino};
    return 0;
}

#define FILE_TICK_NS UINT64_C(10000000) /* the longest: a kernel of 100 Hz */

/* A file whose two times differ, as after rvb_os_touch or utimes, shows any write. */
void rvb_stamp_outlast(const rvb_stamp *stamp) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t age = in_ns(t) - stamp->modified_ns; /* huge if it is in the future */
    if (stamp->modified_ns != stamp->changed_ns || age >= FILE_TICK_NS) return;
    t = (struct timespec){0, (long)(FILE_TICK_NS - age)};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) continue;
}

int rvb_os_read(rvb_fd fd, void *data, size_t size, size_t *got) {
    char *p = data;
    *got = 0;
    while (*got < size) {
        size_t want = size - *got < TRANSFER_MAX ? size - *got : TRANSFER_MAX;
        ssize_t n = read((int)fd, p + *got, want);
        if (n == 0) break;
        if (n > 0) {
            *got += (size_t)n;
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

int rvb_os_read_at(rvb_fd fd, uint64_t at, void *data, size_t size, size_t *got) {
    char *p = data;
    *got = 0;
    while (*got < size) {
        size_t want = size - *got < TRANSFER_MAX ? size - *got : TRANSFER_MAX;
        ssize_t n = pread((int)fd, p + *got, want, (off_t)(at + *got));
        if (n == 0) break;
        if (n > 0) {
            *got += (size_t)n;
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

/* Descriptors are given out from the lowest number on. */
bool rvb_os_may_keep(rvb_fd fd) {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd < limit.rlim_cur / 2;
}

int rvb_os_map(rvb_fd fd, size_t size, const uint8_t **data) {
    void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, (int)fd, 0);
    if (p == MAP_FAILED) return errno;
    *data = p;
    return 0;
}

void rvb_os_unmap(const uint8_t *data, size_t size) {
    must(munmap((void *)(uintptr_t)data, size));
}

/* ---- writing files ------------------------------------------------------- */

size_t rvb_os_directory_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* first[0..first_length] followed by second. NULL when memory is out. */
static char *join(const char *first, size_t first_length, const char *second) {
    size_t second_length = strlen(second);
    char *joined = rvb_alloc(first_length + second_length + 1, 1);
    if (!joined) return NULL;
    memcpy(joined, first, first_length);
    memcpy(joined + first_length, second, second_length + 1);
    return joined;
}

/* Replaces *path, a link, by what it names. */
static int follow(char **path) {
    char link[PATH_MAX];
    ssize_t length = readlink(*path, link, sizeof link);
    if (length < 0) return errno;
    if (length == sizeof link) return ENAMETOOLONG;
    link[length] = '\0';
    /* A relative link starts at the directory that holds it. */
    char *next = join(*path, link[0] == '/' ? 0 : rvb_os_directory_length(*path), link);
    if (!next) return ENOMEM;
    rvb_free(*path);
    *path = next;
    return 0;
}

int rvb_os_target(const char *path, bool follow_links, char **target, int *mode) {
    if (!*path) return ENOENT;
    char *at = join(path, 0, path);
    if (!at) return ENOMEM;
    *mode = -1;
    int failed;
    for (int links = 0;; links++) {
        struct stat s;
        failed = lstat(at, &s) != 0 ? errno : 0;
        bool link = !failed && S_ISLNK(s.st_mode);
        if (!link || !follow_links) {
            if (!failed && !link) failed = kind_of(&s);
            if (!failed && !link) *mode = (int)(s.st_mode & 0777);
            break;
        }
        failed = links < LINKS_MAX ? follow(&at) : ELOOP;
        if (failed) break;
    }
    if (failed && failed != ENOENT) { /* ENOENT: to be created */
        rvb_free(at);
        return failed;
    }
    *target = at;
    return 0;
}

int rvb_os_create(const char *path, int mode, rvb_fd *fd) {
    mode_t wanted = mode < 0 ? 0666 : (mode_t)mode;
    int failed = open_retry(path, O_WRONLY | O_CREAT | O_EXCL, wanted, fd);
    if (failed) return failed;
    /* The umask may have taken bits away. A file system without permissions may
     * refuse to give them back; the file is then no wider than `mode`. */
    if (mode >= 0) (void)fchmod((int)*fd, wanted);
    return 0;
}

int rvb_os_write(rvb_fd fd, const void *data, size_t size) {
    const char *p = data;
    while (size > 0) {
        ssize_t n = write((int)fd, p, size < TRANSFER_MAX ? size : TRANSFER_MAX);
        if (n >= 0) {
            p += n;
            size -= (size_t)n;
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

void rvb_os_touch(rvb_fd fd) {
    struct timespec times[2] = {{0, UTIME_OMIT}, {0, 0}};
    clock_gettime(CLOCK_REALTIME, &times[1]);
    (void)futimens((int)fd, times); /* else it has the coarse one */
}

int rvb_os_sync(rvb_fd fd) {
    int failed;
#ifdef __APPLE__
    /* There fsync leaves the data in the drive's own cache. */
    if (fcntl((int)fd, F_FULLFSYNC) == 0) return 0;
#endif
    do failed = fsync((int)fd) != 0 ? errno : 0;
    while (failed == EINTR);
    return failed;
}

int rvb_os_close(rvb_fd fd) {
    /* Not repeated after EINTR: the descriptor is gone by then. */
    return close((int)fd) != 0 && errno != EINTR ? errno : 0;
}

int rvb_os_rename(const char *from, const char *to) {
    return rename(from, to) != 0 ? errno : 0;
}

int rvb_os_make_directory(const char *path) { return mkdir(path, 0777) != 0 ? errno : 0; }

bool rvb_os_is_directory(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

int rvb_os_open_directory(const char *directory, rvb_fd *fd) {
    int failed = open_retry(*directory ? directory : ".", O_RDONLY | O_DIRECTORY, 0, fd);
    return failed == EACCES ? 0 : failed; /* one may write there, but not read */
}

int rvb_os_sync_directory(rvb_fd fd) {
    if (fd == RVB_NO_FD) return 0;
    int failed = rvb_os_sync(fd);
    return failed == EINVAL || failed == ENOTSUP ? 0 : failed; /* no such thing there */
}

void rvb_os_unlink(const char *path) { (void)unlink(path); }
