/*
 * os.h - what the library needs of the operating system: os_posix.c or os_windows.c
 * behind one interface, where no other file is named. For the files of this room, and
 * those of others that wait.
 *
 * Functions returning int return 0 or an errno value unless they say otherwise.
 * Paths are UTF-8.
 */
#ifndef RVB_OS_H
#define RVB_OS_H

#include "base/base.h"

#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#else
#include <pthread.h>
#endif

/* ---- memory (os_pages.c) -------------------------------------------------- */

/* Asks for large pages under memory that will be read at random places: a request,
 * without effect where there are none. */
void rvb_os_want_large_pages(void *memory, size_t bytes);

/* ---- threads ------------------------------------------------------------- */

#ifdef _WIN32
struct rvb_mutex {
    SRWLOCK os;
};
typedef struct rvb_cond {
    CONDITION_VARIABLE os;
} rvb_cond;
typedef HANDLE rvb_thread_id;
#define RVB_MUTEX_STATIC                                                                 \
    { SRWLOCK_INIT }
#else
struct rvb_mutex {
    pthread_mutex_t os;
};
typedef struct rvb_cond {
    pthread_cond_t os;
} rvb_cond;
typedef pthread_t rvb_thread_id;
#define RVB_MUTEX_STATIC                                                                 \
    { PTHREAD_MUTEX_INITIALIZER }
#endif

int rvb_mutex_init(rvb_mutex *m);
void rvb_mutex_destroy(rvb_mutex *m);

int rvb_cond_init(rvb_cond *c);
void rvb_cond_destroy(rvb_cond *c);
/* The mutex is held on entry and on return. All waits may wake for no reason. */
void rvb_cond_wait(rvb_cond *c, rvb_mutex *m);
void rvb_cond_wait_ms(rvb_cond *c, rvb_mutex *m, unsigned ms);
void rvb_cond_signal(rvb_cond *c);
void rvb_cond_broadcast(rvb_cond *c);

/* Must stay where it is until joined. */
typedef struct rvb_thread {
    rvb_thread_id id;
    void (*run)(void *ctx);
    void *ctx;
} rvb_thread;
/* The thread takes no signals but those its own faults raise. */
int rvb_thread_start(rvb_thread *t, void (*run)(void *ctx), void *ctx);
void rvb_thread_join(rvb_thread *t);
/* Lets another thread that is ready run in this one's place. */
void rvb_os_yield(void);

/* What polite.c works until it makes room again, when a turn of `turn` ns has ended and
 * others have had the processor for `away` ns. */
uint64_t rvb_next_turn_ns(uint64_t turn, uint64_t away);

/* Something to wait for together with files and sockets: readable while it is raised.
 * The descriptor is -1 where there is no such thing. */
typedef struct rvb_wake {
    int read_fd, write_fd;
} rvb_wake;
int rvb_wake_open(rvb_wake *w);
void rvb_wake_close(rvb_wake *w);
/* Raised once, lowered once, by whoever holds the lock that guards it. */
void rvb_wake_raise(rvb_wake *w);
void rvb_wake_lower(rvb_wake *w);

/* Calls `before` ahead of every fork of this process, then `parent` and `child` in
 * each of the two. Nothing where there is no fork. */
int rvb_on_fork(void (*before)(void), void (*parent)(void), void (*child)(void));

/* ---- fork (fork.c) ------------------------------------------------------- */

/* An object with locks, as a part of it. In the child of every fork `reset` is called:
 * it makes the locks anew, since threads that held them are not there. */
typedef struct rvb_inherited {
    struct rvb_inherited *next, *previous;
    void (*reset)(void *object);
    void *object;
} rvb_inherited;
int rvb_inherit(rvb_inherited *i, void (*reset)(void *object), void *object);
void rvb_disinherit(rvb_inherited *i);
/* Around what a fork must not cut in two: it waits. Short, waiting for nothing and
 * calling nothing back. One may lie within another. */
void rvb_step_begin(void);
void rvb_step_end(void);
/* Changes with every fork, in the child. */
unsigned rvb_process_life(void);

#ifdef __linux__
/* os_posix.c. Processors the quota of this process's control group allows, rounded up; 0
 * = no quota. `membership` is /proc/self/cgroup, `mount` /sys/fs/cgroup (versions 1, 2).
 */
unsigned rvb_cgroup_cpus(const char *membership, const char *mount);
#endif

/* ---- files --------------------------------------------------------------- */

#ifdef _WIN32
#define RVB_SEPARATOR '\\'
#else
#define RVB_SEPARATOR '/'
#endif

typedef intptr_t rvb_fd;
#define RVB_NO_FD ((rvb_fd)-1)
/* Returned beside errno values: there is something, but neither file nor directory. */
#define RVB_NOT_A_FILE (-1)

/* Opens a regular file to read, without ever blocking on a pipe or device. */
int rvb_os_open(const char *path, rvb_fd *fd, uint64_t *size);
/* The same, but fails if `path` itself is a symbolic link. */
int rvb_os_open_no_link(const char *path, rvb_fd *fd, uint64_t *size);
int rvb_os_stamp(rvb_fd fd, rvb_stamp *out);
/* Stops early at the end of the file only. */
int rvb_os_read(rvb_fd fd, void *data, size_t size, size_t *got);
/* The same from byte `at` on. */
int rvb_os_read_at(rvb_fd fd, uint64_t at, void *data, size_t size, size_t *got);
/* Whether this descriptor may be kept for long: false where the process is allowed so few
 * that others would be short of them. */
bool rvb_os_may_keep(rvb_fd fd);
/* Read-only; size > 0. The mapping outlives the descriptor. */
int rvb_os_map(rvb_fd fd, size_t size, const uint8_t **data);
void rvb_os_unmap(const uint8_t *data, size_t size);

/* Where a write to `path` would go: rvb_free it. Links are followed, or stand for no
 * file. *mode is the permission of the file there, -1 if there is none. */
int rvb_os_target(const char *path, bool follow_links, char **target, int *mode);
/* Bytes of `path` up to and including the last separator. */
size_t rvb_os_directory_length(const char *path);
/* Creates a file that must not exist, with exactly `mode`, or -1 for the default. */
int rvb_os_create(const char *path, int mode, rvb_fd *fd);
int rvb_os_write(rvb_fd fd, const void *data, size_t size); /* all of it */
int rvb_os_sync(rvb_fd fd);
/* Gives a file the present moment as the time it was changed. The system's own such times
 * go in steps of some milliseconds: too coarse to tell quick rewrites apart. */
void rvb_os_touch(rvb_fd fd);
int rvb_os_close(rvb_fd fd);
int rvb_os_rename(const char *from, const char *to);
/* With the permissions the process gives to new ones. */
int rvb_os_make_directory(const char *path);
bool rvb_os_is_directory(const char *path);
/* Flushing a directory makes renames in it last. "" is the current one. *fd is
 * RVB_NO_FD where it cannot be flushed or need not be. */
int rvb_os_open_directory(const char *directory, rvb_fd *fd);
int rvb_os_sync_directory(rvb_fd fd);
void rvb_os_unlink(const char *path);

/* Unpredictable. For names and keys of tables, never for results. */
uint64_t rvb_os_entropy(void);

/* watch.c. Keeps the descriptor, unless it fails. */
rv_status rvb_watch_file(rvb_fd fd, const char *path, rvb_bytes *bytes, rv_error *err);
void rvb_watch_end(struct rvb_watch *watch); /* NULL is fine */

#endif
