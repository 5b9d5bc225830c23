/* Collections in files: names, bytes, hostile headers, links, states of files that
 * change, and writes that fail. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "failing_allocator.h"
#include "lake/source_i.h"
#include "test_folder.h"

#ifdef __APPLE__
#define MODIFIED(s) (s).st_mtimespec
#else
#define MODIFIED(s) (s).st_mtim
#endif

static rv_error error;
static rv_backend *files;

static int make_fs(void **state) {
    if (make_folder(state) != 0) return -1;
    return rv_fs_backend_new("disk", folder, 0, &files, &error) == RV_OK ? 0 : -1;
}

static int free_fs(void **state) {
    rv_backend_free(files);
    return remove_folder(state);
}

static void ok(rv_status status) {
    if (status != RV_OK) fail_msg("%s", error.message);
}

/* The published file: rows (10, [1, -2.5]) and (0x1122334455667788, [0, 3]). */
static const uint8_t sample[56] = {
    'r',  'u',  'v',  'e',  'c',  '1',  0,    0,    2, 0, 0,    0,    0,    0,
    0,    0,    2,    0,    0,    0,    0,    0,    0, 0, 0x0A, 0,    0,    0,
    0,    0,    0,    0,    0,    0,    0x80, 0x3F, 0, 0, 0x20, 0xC0, 0x88, 0x77,
    0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0,    0,    0, 0, 0,    0,    0x40, 0x40};
static const uint64_t sample_ids[] = {10, 0x1122334455667788};
static const float sample_rows[] = {1, -2.5f, 0, 3};

static void put_sample(const char *name) {
    char path[PATH_BYTES];
    assert_int_equal(write_file(in_folder(path, name), sample, sizeof sample), 0);
}

static void assert_pulls_sample(const char *collection) {
    rv_pull p;
    ok(rv_backend_pull(files, collection, &p, &error));
    assert_true(p.n == 2 && p.dim == 2);
    assert_memory_equal(p.ids, sample_ids, sizeof sample_ids);
    assert_memory_equal(p.vectors, sample_rows, sizeof sample_rows);
    assert_int_equal((uintptr_t)p.vectors % 64, 0);
    rv_pull_release(&p);
}

static bool ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static void assert_no_pull(const char *collection, const char *words) {
    rv_pull p;
    char wanted[160];
    assert_int_equal(rv_backend_pull(files, collection, &p, NULL), RV_ERR_BACKEND);
    assert_int_equal(rv_backend_pull(files, collection, &p, &error), RV_ERR_BACKEND);
    snprintf(wanted, sizeof wanted, "backend error (disk): FsBackend%s", words);
    if (strncmp(error.message, wanted, strlen(wanted)) != 0)
        fail_msg("wanted %s, was %s", wanted, error.message);
    assert_memory_equal(error.path, folder, strlen(folder));
}

static void set_modified(const char *name, time_t seconds, long ns) {
    char path[PATH_BYTES];
    const struct timespec times[2] = {{0, UTIME_OMIT}, {seconds, ns}};
    assert_int_equal(utimensat(AT_FDCWD, in_folder(path, name), times, 0), 0);
}

/* ---- the bytes ------------------------------------------------------------------ */

static void the_published_file(void **state) {
    (void)state;
    char path[PATH_BYTES];
    uint8_t bytes[64];
    ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){sample_rows, sample_ids, 2, 2},
                   &error));
    assert_int_equal(read_file(in_folder(path, "c.bin"), bytes, 64), sizeof sample);
    assert_memory_equal(bytes, sample, sizeof sample);
    assert_int_equal(count_entries(folder), 1);
    assert_pulls_sample("c");
    put_sample("other.bin");
    ok(rv_fs_register(files, "d", "other.bin", &error));
    assert_pulls_sample("d");
}

/* More than a tile of rows, and a row larger than a tile's share. */
static void many_rows(void **state) {
    (void)state;
    static const uint32_t dims[] = {1, 3, 128, 8192};
    static const size_t counts[] = {200000, 100001, 5000, 70};
    for (size_t c = 0; c < 4; c++) {
        size_t n = counts[c], dim = dims[c];
        uint64_t *ids = malloc(n * sizeof *ids);
        float *rows = malloc(n * dim * sizeof *rows);
        rv_pull p;
        assert_non_null(ids);
        assert_non_null(rows);
        for (size_t i = 0; i < n; i++) ids[i] = rvb_random(1, 2, i) >> 1;
        for (size_t i = 0; i < n * dim; i++) rows[i] = (float)i * 0.5f - 3;
        ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){rows, ids, n, dims[c]}, &error));
        ok(rv_backend_pull(files, "c", &p, &error));
        assert_true(p.n == n && p.dim == dim);
        assert_memory_equal(p.ids, ids, n * sizeof *ids);
        assert_memory_equal(p.vectors, rows, n * dim * sizeof *rows);
        rv_pull_release(&p);
        free(ids);
        free(rows);
    }
}

static void empty_and_longer_files(void **state) {
    (void)state;
    char path[PATH_BYTES];
    uint8_t bytes[80] = {0};
    rv_pull p;
    ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){NULL, NULL, 0, 5}, &error));
    assert_int_equal(read_file(in_folder(path, "c.bin"), bytes, 64), 24);
    ok(rv_backend_pull(files, "c", &p, &error));
    assert_true(p.n == 0 && p.dim == 5);
    rv_pull_release(&p);
    memset(bytes, 0xEE, sizeof bytes);
    memcpy(bytes, sample, sizeof sample); /* what stands behind the rows is ignored */
    assert_int_equal(write_file(path, bytes, sizeof bytes), 0);
    assert_pulls_sample("c");
}

/* ---- names of files ------------------------------------------------------------- */

static void refused_name(const char *name, const char *reason, bool write_only) {
    char wanted[300];
    rv_status status = rv_fs_register(files, "c", name, &error);
    if (!write_only) {
        assert_int_equal(status, RV_ERR_ARGUMENT);
        if (!ends_with(error.message, reason)) fail_msg("%s", error.message);
    } else {
        ok(status);
    }
    assert_int_equal(
        rv_fs_write(files, "c", name, &(rv_rows){sample_rows, sample_ids, 2, 2}, &error),
        RV_ERR_ARGUMENT);
    if (strlen(name) < 60 && !strpbrk(name, "\n\x01\x7F\xFF\xC3\xED")) {
        snprintf(wanted, sizeof wanted, "FsBackend: illegal filename \"%s\": %s", name,
                 reason);
        assert_string_equal(error.message, wanted);
    }
    if (!strstr(error.message, "FsBackend: illegal filename \"") ||
        !ends_with(error.message, reason))
        fail_msg("%s", error.message);
    for (const char *c = error.message; *c; c++)
        assert_true((unsigned char)*c >= 0x20 && *c != 0x7F);
    assert_int_equal(count_entries(folder), 0);
}

static void illegal_names(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"../escape", "path separator"},   {"../../etc/passwd", "path separator"},
        {"./secret", "path separator"},    {"", "empty"},
        {"/absolute", "path separator"},   {"sub/foo", "path separator"},
        {"back\\slash", "path separator"}, {".", "reserved component"},
        {"..", "reserved component"},      {"foo\nbar", "control byte"},
        {"foo\x7F", "control byte"},       {"\x01", "control byte"},
        {"a\n/b", "control byte"},         {"C:name", "colon"},
        {"C:/name", "path separator"},     {"\xFF", "not UTF-8"},
        {"name\xC3", "not UTF-8"},         {"\xED\xA0\x80", "not UTF-8"},
    };
    char name[300], *at = name;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused_name(cases[i][0], cases[i][1], false);
    memset(name, 'n', sizeof name);
    name[256] = '\0';
    refused_name(name, "exceeds 255 bytes (POSIX NAME_MAX)", false);
    name[10] = '\n'; /* the length is looked at first */
    refused_name(name, "exceeds 255 bytes (POSIX NAME_MAX)", false);
    for (int i = 0; i < 86; i++) at = stpcpy(at, "\xE2\x82\xAC"); /* 258 bytes */
    refused_name(name, "exceeds 255 bytes (POSIX NAME_MAX)", false);
    memset(name, 'n', sizeof name);
    name[241] = '\0';
    refused_name(name, "exceeds 240 bytes, no room for a temporary file's name", true);
    refused_name(".hidden", "leading dot, kept for temporary files", true);
    assert_int_equal(rv_fs_register(files, "\xFF", "ok.bin", &error), RV_ERR_ARGUMENT);
}

static void legal_names(void **state) {
    (void)state;
    char name[241], path[PATH_BYTES];
    memset(name, 'n', 240);
    name[240] = '\0';
    const char *const names[] = {"ok.bin", "\xC3\xA9.bin", " blank", "dot.",
                                 "...",    "NUL",          "a..b",   name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], "...") == 0) { /* a leading dot is for readers only */
            put_sample(names[i]);
            ok(rv_fs_register(files, "c", names[i], &error));
        } else {
            ok(rv_fs_write(files, "c", names[i],
                           &(rv_rows){sample_rows, sample_ids, 2, 2}, &error));
        }
        assert_pulls_sample("c");
        assert_int_equal(access(in_folder(path, names[i]), R_OK), 0);
    }
    memset(name, 'm', 240);
    ok(rv_fs_register(files, "long", name, &error));
}

/* ---- hostile files -------------------------------------------------------------- */

static void put_u64(uint8_t *at, uint64_t value) { rvb_put_u64(at, value); }

static void hostile_headers(void **state) {
    (void)state;
    char path[PATH_BYTES];
    static const struct {
        uint64_t count;
        uint32_t dim, reserved;
        const char *words; /* of a pull */
        bool no_bundle;
    } cases[] = {
        {3, 2, 0, ": pull: 3 rows of dim 2 take 72 bytes, the file has 56", false},
        {2, 3, 0, ": pull: 2 rows of dim 3 take 64 bytes, the file has 56", false},
        {100000000, 1, 0, ": pull: 100000000 rows of dim 1 take 1200000024 bytes", false},
        {100000001, 1, 0, ": pull: count=100000001 exceeds 100000000", false},
        {UINT64_MAX, 2, 0, ": pull: count=18446744073709551615 exceeds", false},
        {UINT64_C(1) << 61, 2, 0, ": pull: count=2305843009213693952 exceeds", false},
        {UINT64_C(1) << 32, 2, 0, ": pull: count=4294967296 exceeds", false},
        {2, 0, 0, ": pull: dim=0 outside (0, 8192]", true},
        {2, 8193, 0, ": pull: dim=8193 outside (0, 8192]", true},
        {2, UINT32_MAX, 0, ": pull: dim=4294967295 outside", true},
        {524289, 8192, 0, ": pull: 17179901952 bytes of vectors exceed 17179869184",
         false},
        {2, 2, 1, ": pull: the reserved field is 1, must be 0", false},
    };
    ok(rv_fs_register(files, "c", "c.bin", &error));
    in_folder(path, "c.bin");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[sizeof sample];
        rv_bundle *bundle;
        memcpy(bytes, sample, sizeof sample);
        put_u64(bytes + 8, cases[i].count);
        rvb_put_u32(bytes + 16, cases[i].dim);
        rvb_put_u32(bytes + 20, cases[i].reserved);
        assert_int_equal(write_file(path, bytes, sizeof bytes), 0);
        failing_allocator_install(0);
        assert_no_pull("c", cases[i].words);
        assert_true(failing_allocator_calls() <= 2); /* paths; nothing was claimed */
        failing_allocator_remove();
        rv_status status = rv_backend_bundle(files, "c", 42, 20, &bundle, &error);
        assert_int_equal(status, cases[i].no_bundle ? RV_ERR_BACKEND : RV_OK);
        rv_bundle_free(bundle);
    }
}

static void cut_files(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rv_bundle *bundle;
    ok(rv_fs_register(files, "c", "c.bin", &error));
    in_folder(path, "c.bin");
    for (size_t size = 0; size < sizeof sample; size++) {
        assert_int_equal(write_file(path, sample, size), 0);
        assert_no_pull("c", size < 24 ? ": pull: header: " : ": pull: 2 rows of dim 2");
        rv_status status = rv_backend_bundle(files, "c", 42, 20, &bundle, &error);
        assert_int_equal(status, size < 24 ? RV_ERR_BACKEND : RV_OK);
        rv_bundle_free(bundle);
    }
    for (size_t at = 0; at < 8; at++) {
        uint8_t bytes[sizeof sample];
        memcpy(bytes, sample, sizeof sample);
        bytes[at] ^= 0x20;
        assert_int_equal(write_file(path, bytes, sizeof bytes), 0);
        assert_no_pull("c", ": pull: bad magic at ");
        assert_int_equal(rv_backend_bundle(files, "c", 42, 20, &bundle, &error),
                         RV_ERR_BACKEND);
    }
}

/* A file that is 16 GiB on paper: the size check lets it through, and then it is memory
 * that is not there, not a crash. */
static void claims_that_are_true_but_large(void **state) {
    (void)state;
    char path[PATH_BYTES];
    uint8_t header[24];
    rv_pull p;
    memcpy(header, sample, sizeof header);
    put_u64(header + 8, 100000000);
    rvb_put_u32(header + 16, 8);
    in_folder(path, "c.bin");
    assert_int_equal(write_file(path, header, sizeof header), 0);
    if (truncate(path, 24 + (off_t)4000000000) != 0) skip(); /* no files with holes */
    ok(rv_fs_register(files, "c", "c.bin", &error));
    failing_allocator_install(2);
    assert_int_equal(rv_backend_pull(files, "c", &p, &error), RV_ERR_MEMORY);
    assert_true(error.expected >= 4000000000u);
    failing_allocator_remove();
}

/* ---- what is not there, or no file ---------------------------------------------- */

static void missing_files(void **state) {
    (void)state;
    char path[PATH_BYTES], wanted[PATH_BYTES + 80];
    uint64_t number[4];
    rv_bundle *bundle;
    rv_pull p;
    bool has;
    assert_int_equal(rv_backend_pull(files, "c", &p, &error), RV_ERR_NOT_FOUND);
    assert_string_equal(error.message, "unknown collection: disk/c");
    assert_int_equal(rv_backend_generation(files, "c", number, &error), RV_ERR_NOT_FOUND);
    assert_int_equal(rv_backend_bundle(files, "c", 1, 1, &bundle, &error),
                     RV_ERR_NOT_FOUND);
    assert_int_equal(rvl_backend_token(files, "c", number, &has, &error),
                     RV_ERR_NOT_FOUND);

    ok(rv_fs_register(files, "c", "c.bin", &error)); /* may come later */
    snprintf(wanted, sizeof wanted,
             "backend error (disk): FsBackend: open %s: No such file",
             in_folder(path, "c.bin"));
    assert_int_equal(rv_backend_pull(files, "c", &p, &error), RV_ERR_BACKEND);
    assert_memory_equal(error.message, wanted, strlen(wanted));
    assert_int_equal(error.os_errno, ENOENT);
    assert_string_equal(error.path, path);
    assert_int_equal(rv_backend_generation(files, "c", number, &error), RV_ERR_BACKEND);
    assert_int_equal(rv_backend_bundle(files, "c", 1, 1, &bundle, &error),
                     RV_ERR_BACKEND);
    assert_int_equal(rvl_backend_token(files, "c", number, &has, &error), RV_ERR_BACKEND);
    put_sample("c.bin");
    assert_pulls_sample("c");

    assert_int_equal(mkdir(in_folder(path, "dir"), 0700), 0);
    ok(rv_fs_register(files, "c", "dir", &error));
    assert_no_pull("c", ": open ");
    assert_int_equal(
        rv_fs_write(files, "w", "dir", &(rv_rows){sample_rows, sample_ids, 2, 2}, &error),
        RV_ERR_IO);
    assert_int_equal(rv_backend_generation(files, "w", number, &error),
                     RV_ERR_NOT_FOUND); /* not registered */
    assert_int_equal(mkfifo(in_folder(path, "pipe"), 0600), 0);
    ok(rv_fs_register(files, "c", "pipe", &error));
    assert_no_pull("c", ": open "); /* and does not wait */
}

static void links(void **state) {
    (void)state;
    char path[PATH_BYTES], target[PATH_BYTES];
    uint64_t number;
    struct stat s;
    rv_backend *following;
    rv_pull p;
    put_sample("real.bin");
    assert_int_equal(symlink("real.bin", in_folder(path, "link.bin")), 0);
    ok(rv_fs_register(files, "c", "link.bin", &error));
    assert_no_pull("c", ": open: a symbolic link");
    assert_int_equal(error.os_errno, ELOOP);
    assert_int_equal(rv_backend_generation(files, "c", &number, &error), RV_ERR_BACKEND);

    ok(rv_fs_backend_new("follows", folder, 1, &following, &error));
    ok(rv_fs_register(following, "c", "link.bin", &error));
    ok(rv_backend_pull(following, "c", &p, &error));
    assert_int_equal(p.n, 2);
    rv_pull_release(&p);

    /* a write takes the link's place and leaves its target alone */
    in_folder(target, "real.bin");
    ok(rv_fs_write(files, "c", "link.bin", &(rv_rows){sample_rows, sample_ids, 1, 1},
                   &error));
    assert_int_equal(lstat(path, &s), 0);
    assert_true(S_ISREG(s.st_mode));
    assert_int_equal(s.st_size, 36);
    assert_int_equal(lstat(target, &s), 0);
    assert_int_equal(s.st_size, sizeof sample);
    rv_backend_free(following);
}

/* ---- generations, tokens, bundles ----------------------------------------------- */

static uint64_t generation(void) {
    uint64_t out;
    ok(rv_backend_generation(files, "c", &out, &error));
    return out;
}

static void generations_are_whole_seconds(void **state) {
    (void)state;
    ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){sample_rows, sample_ids, 2, 2},
                   &error));
    static const struct {
        time_t seconds;
        long ns;
        uint64_t wanted;
    } cases[] = {{1234567890, 999999999, 1234567890},
                 {0, 0, 0},
                 {1, 0, 1},
                 {-1, 500000000, 0},
                 {-86400, 0, 0},
                 {4294967296, 0, 4294967296}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rv_pull p;
        rv_bundle *bundle, *of_pull;
        set_modified("c.bin", cases[i].seconds, cases[i].ns);
        assert_true(generation() == cases[i].wanted);
        ok(rv_backend_pull(files, "c", &p, &error));
        assert_true(p.generation == cases[i].wanted);
        ok(rv_backend_bundle(files, "c", 42, 20, &bundle, &error));
        assert_true(bundle->generation == cases[i].wanted);
        assert_null(bundle->generation_text.data);
        assert_int_equal(bundle->dim, 2);
        char wanted[PATH_BYTES + 20];
        snprintf(wanted, sizeof wanted, "file://%s/c.bin", folder);
        assert_string_equal(bundle->data_ref.data, wanted);
        ok(rvl_backend_bundle_of_pull(files, "c", 42, 20, &p, &of_pull, &error));
        assert_string_equal(of_pull->witness.data, bundle->witness.data);
        rv_bundle_free(bundle);
        rv_bundle_free(of_pull);
        rv_pull_release(&p);
    }
    assert_true(rvl_backend_calls(files)->snapshots);
}

/* A root as given: relative, with a separator at its end. */
static void roots(void **state) {
    (void)state;
    char here[PATH_BYTES];
    static const char *const cases[][2] = {{"rel", "file://rel/c.bin"},
                                           {"rel/", "file://rel/c.bin"},
                                           {"./a/../rel2", "file://./a/../rel2/c.bin"},
                                           {"x/y//", "file://x/y//c.bin"},
                                           {"", "file://c.bin"},
                                           {"\xC3\xA9 %", "file://\xC3\xA9 %/c.bin"}};
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(folder), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rv_backend *b;
        rv_bundle *bundle;
        if (i == 2) ok(rvb_make_directories("a", &error));
        ok(rv_fs_backend_new("x", cases[i][0], 0, &b, &error));
        ok(rv_fs_write(b, "c", "c.bin", &(rv_rows){sample_rows, sample_ids, 2, 2},
                       &error));
        ok(rv_backend_bundle(b, "c", 42, 20, &bundle, &error));
        assert_string_equal(bundle->data_ref.data, cases[i][1]);
        rv_bundle_free(bundle);
        rv_backend_free(b);
    }
    assert_int_equal(chdir(here), 0);
    rv_backend *b;
    assert_int_equal(rv_fs_backend_new("x", "/dev/null/x", 0, &b, &error), RV_ERR_IO);
    assert_null(b);
    assert_int_equal(rv_fs_backend_new("x", "\xFF", 0, &b, &error), RV_ERR_ARGUMENT);
    assert_int_equal(rv_fs_backend_new("x", NULL, 0, &b, &error), RV_ERR_ARGUMENT);
    assert_int_equal(rv_fs_backend_new("\xFF", folder, 0, &b, &error), RV_ERR_ARGUMENT);
}

static void token_of(uint64_t out[4]) {
    bool has = false;
    ok(rvl_backend_token(files, "c", out, &has, &error));
    assert_true(has);
}

static void rewrites_change_the_token(void **state) {
    (void)state;
    uint64_t before[4], after[4], again[4];
    char path[PATH_BYTES];
    const float other_rows[] = {9, 8, 7, 6};
    ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){sample_rows, sample_ids, 2, 2},
                   &error));
    set_modified("c.bin", 1000000000, 0);
    token_of(before);
    token_of(again);
    assert_memory_equal(before, again, sizeof before);
    assert_true(before[0] == UINT64_C(1000000000000000000));
    assert_int_equal(before[1], sizeof sample);

    /* within the second, of the same size, by this backend */
    for (int i = 0; i < 20; i++) {
        const float *rows = i % 2 ? sample_rows : other_rows;
        ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){rows, sample_ids, 2, 2}, &error));
        token_of(after);
        assert_memory_not_equal(before, after, sizeof before);
        memcpy(before, after, sizeof before);
    }
    /* in place by somebody else, who puts the time back */
    struct stat s;
    assert_int_equal(stat(in_folder(path, "c.bin"), &s), 0);
    set_modified("c.bin", 1000000000, 0);
    token_of(before);
    uint64_t generation_before = generation();
    const struct timespec pause = {0, 20000000}; /* longer than a tick */
    nanosleep(&pause, NULL);
    int fd = open(path, O_WRONLY);
    assert_true(pwrite(fd, sample + 24, 8, 24) == 8);
    close(fd);
    set_modified("c.bin", 1000000000, 0);
    token_of(after);
    assert_int_equal(generation(), generation_before);
    assert_int_equal(before[0], after[0]);
    assert_int_equal(before[1], after[1]);
    assert_true(before[2] != after[2]);
}

/* What is written to it after a pull has another time, whatever steps these go in, and
 * a write that was going on then is over. */
static void a_pull_outlasts_the_time_of_its_file(void **state) {
    (void)state;
    char path[PATH_BYTES];
    struct stat s;
    struct timespec now;
    rv_pull p;
    in_folder(path, "c.bin");
    ok(rv_fs_register(files, "c", "c.bin", &error));
    for (int i = 0; i < 10; i++) {
        put_sample("c.bin");
        ok(rv_backend_pull(files, "c", &p, &error));
        rv_pull_release(&p);
        assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
        assert_int_equal(stat(path, &s), 0);
        long long ns = (now.tv_sec - MODIFIED(s).tv_sec) * 1000000000LL + now.tv_nsec -
                       MODIFIED(s).tv_nsec;
        assert_true(ns >= 10000000); /* the longest step: a kernel of 100 Hz */
    }
}

static void a_pull_belongs_to_its_file(void **state) {
    (void)state;
    rv_pull p;
    rv_bundle *bundle;
    char wanted[PATH_BYTES + 20];
    ok(rv_fs_write(files, "c", "a.bin", &(rv_rows){sample_rows, sample_ids, 2, 2},
                   &error));
    set_modified("a.bin", 1000, 0);
    ok(rv_backend_pull(files, "c", &p, &error));
    ok(rv_fs_write(files, "c", "b.bin", &(rv_rows){sample_rows, sample_ids, 2, 1},
                   &error));
    ok(rvl_backend_bundle_of_pull(files, "c", 42, 20, &p, &bundle, &error));
    snprintf(wanted, sizeof wanted, "file://%s/a.bin", folder);
    assert_string_equal(bundle->data_ref.data, wanted);
    assert_true(bundle->dim == 2 && bundle->generation == 1000);
    rv_bundle_free(bundle);
    rv_pull_release(&p);
    ok(rv_backend_bundle(files, "c", 42, 20, &bundle, &error));
    assert_true(ends_with(bundle->data_ref.data, "/b.bin"));
    assert_int_equal(bundle->dim, 1);
    rv_bundle_free(bundle);
}

static rv_status join_names(void *names, const char *name, rv_error *err) {
    (void)err;
    strcat(strcat(names, name), ",");
    return RV_OK;
}

static void names_are_listed(void **state) {
    (void)state;
    char names[64] = "";
    put_sample("unregistered.bin");
    ok(rv_fs_register(files, "b", "x", &error));
    ok(rv_fs_register(files, "a", "x", &error));
    ok(rv_fs_register(files, "b", "y", &error));
    ok(rv_backend_list(files, join_names, names, &error));
    assert_string_equal(names, "a,b,");
}

/* ---- writes that cannot be ------------------------------------------------------ */

static void refused_writes(void **state) {
    (void)state;
    const uint64_t reserved[] = {1, UINT64_MAX};
    const float bad[] = {1, NAN, 3, 4};
    uint64_t number;
    static const uint32_t dims[] = {0, 8193, UINT32_MAX};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(rv_fs_write(files, "c", "c.bin",
                                     &(rv_rows){sample_rows, sample_ids, 2, dims[i]},
                                     &error),
                         RV_ERR_ARGUMENT);
    assert_int_equal(
        rv_fs_write(files, "c", "c.bin", &(rv_rows){bad, sample_ids, 2, 2}, &error),
        RV_ERR_VALUE);
    assert_string_equal(error.message, "FsBackend: write: row 0 holds NaN at position 1");
    assert_int_equal(
        rv_fs_write(files, "c", "c.bin", &(rv_rows){sample_rows, reserved, 2, 2}, &error),
        RV_ERR_ARGUMENT);
    assert_int_equal(rv_fs_write(files, "c", "c.bin",
                                 &(rv_rows){sample_rows, sample_ids, 100000001, 2},
                                 &error),
                     RV_ERR_LIMIT);
    assert_int_equal(rv_fs_write(files, "c", "c.bin",
                                 &(rv_rows){sample_rows, sample_ids, 524289, 8192},
                                 &error),
                     RV_ERR_LIMIT);
    assert_int_equal(
        rv_fs_write(files, "c", "c.bin", &(rv_rows){NULL, sample_ids, 2, 2}, &error),
        RV_ERR_ARGUMENT);
    assert_int_equal(count_entries(folder), 0);
    assert_int_equal(rv_backend_generation(files, "c", &number, &error),
                     RV_ERR_NOT_FOUND);

    rv_backend *other;
    ok(rv_local_backend_new("mem", &other, &error));
    assert_int_equal(rv_fs_register(other, "c", "c.bin", &error), RV_ERR_ARGUMENT);
    assert_string_equal(error.message, "backend mem is not one of files");
    assert_int_equal(rv_fs_write(other, "c", "c.bin",
                                 &(rv_rows){sample_rows, sample_ids, 2, 2}, &error),
                     RV_ERR_ARGUMENT);
    rv_backend_free(other);
}

static void without_memory(void **state) {
    (void)state;
    const float other_rows[] = {5, 6, 7, 8};
    for (int step = 0; step < 4; step++) {
        for (size_t n = 1;; n++) {
            rv_pull p = {0};
            rv_bundle *bundle = NULL;
            rv_backend *b = NULL;
            char name[32], names[64] = "";
            uint64_t number;
            rv_status status = RV_OK;
            snprintf(name, sizeof name, "new-%d-%zu", step, n);
            ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){sample_rows, sample_ids, 2, 2},
                           &error));
            failing_allocator_install(n);
            if (step == 0) {
                status = rv_fs_write(files, name, "c.bin",
                                     &(rv_rows){other_rows, sample_ids, 2, 2}, &error);
            } else if (step == 1) {
                status = rv_backend_pull(files, "c", &p, &error);
            } else if (step == 2) {
                status = rv_backend_bundle(files, "c", 1, 1, &bundle, &error);
                if (status == RV_OK)
                    status = rv_backend_list(files, join_names, names, &error);
            } else {
                status = rv_fs_backend_new("x", folder, 0, &b, &error);
            }
            bool reached = failing_allocator_calls() >= n;
            rv_pull_release(&p);
            rv_bundle_free(bundle);
            rv_backend_free(b);
            if (step != 0) assert_int_equal(failing_allocator_live(), 0);
            rv_set_allocator(NULL);
            assert_int_equal(status, reached ? RV_ERR_MEMORY : RV_OK);
            assert_int_equal(count_entries(folder), 1);
            if (step == 0 && reached) {
                assert_pulls_sample("c"); /* the old file */
                assert_int_equal(rv_backend_generation(files, name, &number, &error),
                                 RV_ERR_NOT_FOUND);
            }
            failing_allocator_remove();
            if (!reached) break;
        }
    }
}

/* ---- readers while it is replaced ----------------------------------------------- */

static atomic_bool stop;

enum { ROUND_ROWS = 3000 };

/* All numbers of a file are one: its round. */
static void *rewrite(void *ctx) {
    static float rows[ROUND_ROWS * 2];
    static uint64_t ids[ROUND_ROWS];
    for (int round = 1; !atomic_load(&stop); round++) {
        for (size_t i = 0; i < ROUND_ROWS * 2; i++) rows[i] = (float)round;
        for (size_t i = 0; i < ROUND_ROWS; i++) ids[i] = (uint64_t)round;
        if (rv_fs_write(ctx, "c", "c.bin", &(rv_rows){rows, ids, ROUND_ROWS, 2}, NULL) !=
            RV_OK)
            return ctx;
    }
    return NULL;
}

static void replaced_while_read(void **state) {
    (void)state;
    pthread_t writer;
    void *failed;
    ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){sample_rows, sample_ids, 2, 2},
                   &error));
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&writer, NULL, rewrite, files), 0);
    for (uint64_t last = 0, seen = 0; seen < 20;) {
        rv_pull p;
        ok(rv_backend_pull(files, "c", &p, &error));
        if (p.n == ROUND_ROWS) {
            for (size_t i = 0; i < ROUND_ROWS; i++) {
                assert_int_equal(p.ids[i], p.ids[0]);
                assert_true(p.vectors[2 * i] == (float)p.ids[0]);
                assert_true(p.vectors[2 * i + 1] == (float)p.ids[0]);
            }
            assert_true(p.ids[0] >= last);
            seen += p.ids[0] != last;
            last = p.ids[0];
        }
        rv_pull_release(&p);
    }
    atomic_store(&stop, true);
    assert_int_equal(pthread_join(writer, &failed), 0);
    assert_null(failed);
    assert_int_equal(count_entries(folder), 1);
}

/* Changes the file's size by a row again and again, without ever making it another. */
static void *grow_and_shrink(void *ctx) {
    char path[PATH_BYTES];
    static uint8_t bytes[24 + 20000 * 8]; /* too large for the stacks of some systems */
    in_folder(path, "c.bin");
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, sample, 24);
    rvb_put_u32(bytes + 16, 1);
    int fd = open(path, O_WRONLY);
    for (uint64_t round = 0; !atomic_load(&stop); round++) {
        uint64_t n = round % 2 ? 10000 : 13000;
        rvb_put_u64(bytes + 8, n);
        if (pwrite(fd, bytes, 24 + n * 12 < sizeof bytes ? 24 + n * 12 : sizeof bytes,
                   0) < 0)
            return ctx;
        if (ftruncate(fd, (off_t)(24 + n * 12)) != 0) return ctx;
    }
    close(fd);
    return NULL;
}

/* A file written in place can be refused, but never gives rows it did not have. */
static void written_in_place_while_read(void **state) {
    (void)state;
    pthread_t writer;
    void *failed;
    ok(rv_fs_write(files, "c", "c.bin", &(rv_rows){sample_rows, sample_ids, 2, 2},
                   &error));
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&writer, NULL, grow_and_shrink, NULL), 0);
    for (int i = 0; i < 50; i++) {
        rv_pull p;
        rv_status status = rv_backend_pull(files, "c", &p, &error);
        if (status == RV_OK) {
            assert_true(p.n == 2 || p.n == 10000 || p.n == 13000);
            rv_pull_release(&p);
        } else {
            assert_int_equal(status, RV_ERR_BACKEND);
        }
    }
    atomic_store(&stop, true);
    assert_int_equal(pthread_join(writer, &failed), 0);
    assert_null(failed);
    rv_pull p;
    ok(rv_backend_pull(files, "c", &p, &error)); /* once it is left alone */
    rv_pull_release(&p);
}

static void *touch(void *ctx) {
    (void)ctx;
    for (time_t second = 1; !atomic_load(&stop); second++)
        set_modified("c.bin", second, 0);
    return NULL;
}

/* A file that is another each time one looks is not taken for any. */
static void touched_while_read(void **state) {
    (void)state;
    enum { DIM = 8192, N = 2000 };
    pthread_t toucher;
    char path[PATH_BYTES];
    uint8_t header[24];
    rv_pull p;
    memcpy(header, sample, sizeof header);
    put_u64(header + 8, N);
    rvb_put_u32(header + 16, DIM);
    assert_int_equal(write_file(in_folder(path, "c.bin"), header, sizeof header), 0);
    assert_int_equal(truncate(path, 24 + (off_t)N * (8 + 4 * DIM)), 0);
    ok(rv_fs_register(files, "c", "c.bin", &error));
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&toucher, NULL, touch, NULL), 0);
    while (generation() > 1000000000) continue; /* it has begun */
    failing_allocator_install(0);
    assert_no_pull("c", ": ");
    assert_non_null(strstr(error.message, "c.bin changes while it is read"));
    assert_int_equal(failing_allocator_live(), 0);
    failing_allocator_remove();
    atomic_store(&stop, true);
    assert_int_equal(pthread_join(toucher, NULL), 0);
    ok(rv_backend_pull(files, "c", &p, &error));
    assert_true(p.n == N && p.generation == generation());
    rv_pull_release(&p);
}

#define FS(test) cmocka_unit_test_setup_teardown(test, make_fs, free_fs)

int main(void) {
    const struct CMUnitTest tests[] = {
        FS(the_published_file),
        FS(many_rows),
        FS(empty_and_longer_files),
        FS(illegal_names),
        FS(legal_names),
        FS(hostile_headers),
        FS(cut_files),
        FS(claims_that_are_true_but_large),
        FS(missing_files),
        FS(links),
        FS(generations_are_whole_seconds),
        FS(roots),
        FS(rewrites_change_the_token),
        FS(a_pull_outlasts_the_time_of_its_file),
        FS(a_pull_belongs_to_its_file),
        FS(names_are_listed),
        FS(refused_writes),
        FS(without_memory),
        FS(replaced_while_read),
        FS(written_in_place_while_read),
        FS(touched_while_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
