/*
 * test_file_write.c - what is written: round trips of every kind, the version-1 body
 * read by hand, bytes that depend on the live rows alone, and saving to real files.
 */
#define _GNU_SOURCE /* mkdtemp */
#include "index_cases.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

static const rv_kind kinds[] = {RV_FLAT, RV_RABITQ, RV_PLUS, RV_ASYM};

/* ---- round trips ---- */

static void assert_round_trip(rv_index *index, const float *queries, size_t m,
                              size_t dim) {
    file_bytes b = bytes_of(index);
    rv_index *loaded = from_bytes(&b);
    assert_true(rv_index_equal(index, loaded));
    rv_index_info before = RV_INDEX_INFO_DEFAULT, after = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &before, err));
    assert_ok(rv_index_get_info(loaded, &after, err));
    assert_int_equal(after.kind, before.kind);
    assert_int_equal(after.metric, before.metric);
    assert_int_equal(after.dim, before.dim);
    assert_int_equal(after.seed, before.seed);
    assert_int_equal(after.rerank_factor, before.rerank_factor);
    assert_int_equal(after.n_lists, before.n_lists);
    assert_int_equal(after.bits, before.bits);
    assert_int_equal(after.code_bytes, before.code_bytes);
    assert_int_equal(after.nprobe, before.nprobe);
    assert_int_equal(after.has_vectors, before.has_vectors);
    assert_true(after.epsilon == before.epsilon);
    assert_int_equal(after.n, before.n);
    assert_int_equal(after.dead, 0);
    assert_int_equal(after.next_id, before.next_id);
    if (before.n > 0) {
        answer a = answer_of(index, queries, m, dim, 13, NULL);
        answer c = answer_of(loaded, queries, m, dim, 13, NULL);
        assert_same_answer(&a, &c);
        answer_free(&a);
        answer_free(&c);
    }
    file_bytes again = bytes_of(loaded);
    assert_same_bytes(&b, &again);
    rv_index_free(loaded);
    free(b.data);
    free(again.data);
}

static void round_trips(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 2, 63, 65, 5000}, dims[] = {1, 5, 33, 100};
    for (size_t kind = 0; kind < 4; kind++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            for (size_t c = 0; c < 6; c++) {
                size_t dim = dims[(c + (size_t)metric) % 4], n = counts[c];
                float *rows = clustered_rows(c, n + 1, dim);
                uint64_t *ids = scattered_ids(c, n);
                rv_build_options o = options_for(kinds[kind], (rv_metric)metric, dim);
                o.seed = UINT64_MAX - c;
                o.epsilon = 2.25f;
                o.n_lists = c % 2 ? 0 : 3;
                rv_index *index = build_with(&o, rows, c % 3 ? ids : NULL, n);
                assert_round_trip(index, rows, 3 < n ? 3 : n, dim);
                if (n > 2) {
                    assert_ok(rv_index_remove(index, c % 3 ? ids + 1 : (uint64_t[]){1}, 1,
                                              NULL, err));
                    assert_round_trip(index, rows, 1, dim);
                }
                rv_index_free(index);
                free(rows);
                free(ids);
            }
        }
    }
}

/* Codes of every width, many lists, and what a search has been tuned to. */
static void round_trips_of_wider_codes(void **state) {
    (void)state;
    const size_t n = 2000, dim = 33;
    float *rows = clustered_rows(1, n, dim), *queries = clustered_rows(2, 20, dim);
    uint64_t *ids = scattered_ids(3, n);
    for (uint32_t bits = 1; bits <= 8; bits++) {
        for (size_t kind = 1; kind < 4; kind++) {
            rv_metric metric = (rv_metric)((bits + kind) % 3);
            rv_build_options o = coded_options(kinds[kind], metric, dim, bits, 64);
            rv_index *index = build_with(&o, rows, ids, n);
            file_bytes before = bytes_of(index);
            rv_tuning tuned = RV_TUNING_DEFAULT;
            assert_ok(rv_index_tune(index, &(rv_queries){queries, 20, (uint32_t)dim}, 5,
                                    0.7, NULL, &tuned, err));
            assert_true(tuned.nprobe < 64);
            file_bytes after = bytes_of(index); /* that much and no more is new */
            assert_int_equal(after.size, before.size);
            size_t differ = 0;
            for (size_t i = 0; i + 40 < after.size; i++)
                differ += before.data[i] != after.data[i];
            assert_true(differ > 0 && differ <= 8);
            assert_round_trip(index, queries, 20, dim);
            assert_ok(rv_index_remove(index, ids, n / 3, NULL, err));
            /* what a narrow bound rules out depends on how rows lie in blocks */
            assert_ok(rv_index_vacuum(index, err));
            assert_round_trip(index, queries, 20, dim);
            free(before.data);
            free(after.data);
            rv_index_free(index);
        }
    }
    free(rows);
    free(queries);
    free(ids);
}

/* Emptied, it keeps its quantizer and the next id. */
static void emptied_indexes(void **state) {
    (void)state;
    float *rows = normal_rows(1, 50, 8);
    uint64_t ids[50];
    for (size_t i = 0; i < 50; i++) ids[i] = i;
    for (size_t kind = 0; kind < 4; kind++) {
        rv_index *index = build(kinds[kind], RV_L2, 8, rows, NULL, 50);
        assert_ok(rv_index_remove(index, ids, 50, NULL, err));
        assert_round_trip(index, rows, 1, 8);
        file_bytes b = bytes_of(index);
        rv_index *loaded = from_bytes(&b);
        assert_ok(rv_index_add(loaded, &(rv_rows){rows, NULL, 1, 8}, NULL, err));
        assert_true(rv_index_contains(loaded, 50));
        rv_index_free(index);
        rv_index_free(loaded);
        free(b.data);
    }
    free(rows);
}

static void removed_rows_leave_no_trace(void **state) {
    (void)state;
    const size_t n = 300;
    float *rows = normal_rows(1, n, 10);
    uint64_t *ids = scattered_ids(1, n);
    for (size_t kind = 0; kind < 4; kind++) {
        rv_index *index = build(kinds[kind], RV_L2, 10, rows, ids, n);
        for (size_t i = 0; i < n; i += 3)
            assert_ok(rv_index_remove(index, ids + i, 1, NULL, err));
        file_bytes with = bytes_of(index);
        assert_ok(rv_index_vacuum(index, err));
        file_bytes without = bytes_of(index);
        assert_same_bytes(&with, &without);
        free(with.data);
        free(without.data);
        rv_index_free(index);
    }
    free(rows);
    free(ids);
}

/* ---- the layout, by hand ---- */

static uint64_t field(const file_bytes *b, size_t at, size_t bytes) {
    uint64_t value = 0;
    assert_true(at + bytes <= b->size);
    for (size_t i = bytes; i-- > 0;) value = value << 8 | b->data[at + i];
    return value;
}

/* As a reader of version 1 goes through it; the bytes after it are none of its
 * business. */
static void assert_version_1(const file_bytes *b, uint64_t seed, uint32_t rerank,
                             const float *rows, const uint64_t *ids, size_t n,
                             size_t dim) {
    assert_memory_equal(b->data, "rbpx0001", 8);
    assert_int_equal(field(b, 8, 4), 1);
    assert_int_equal(field(b, 12, 4), dim);
    assert_int_equal(field(b, 16, 8), seed);
    assert_int_equal(field(b, 24, 4), rerank);
    assert_int_equal(field(b, 28, 4), n);
    for (size_t i = 0; i < n; i++) {
        size_t at = 32 + i * (4 + 4 * dim);
        assert_int_equal(field(b, at, 4), ids ? ids[i] : i);
        assert_true(at + 4 + 4 * dim <= b->size);
        assert_memory_equal(b->data + at + 4, rows + i * dim, 4 * dim);
    }
}

static void plus_starts_with_version_1(void **state) {
    (void)state;
    const size_t n = 77, dim = 9;
    float *rows = normal_rows(1, n, dim);
    uint64_t ids[77];
    for (size_t i = 0; i < n; i++) ids[i] = i * 1000003 % UINT32_MAX;
    ids[3] = UINT32_MAX;
    rv_build_options o = options_for(RV_PLUS, RV_L2, dim);
    o.seed = UINT64_C(0x8877665544332211);
    rv_index *index = build_with(&o, rows, ids, n);
    file_bytes b = bytes_of(index);
    assert_version_1(&b, o.seed, 20, rows, ids, n, dim); /* 20: it knows no bound */
    rv_index_free(index);
    free(b.data);

    o.rerank_factor = 7;
    ids[40] = UINT64_C(1) << 32; /* then records carry row numbers */
    index = build_with(&o, rows, ids, n);
    b = bytes_of(index);
    assert_version_1(&b, o.seed, 7, rows, NULL, n, dim);
    rv_index *loaded = from_bytes(&b); /* and the ids stand elsewhere */
    for (size_t i = 0; i < n; i++) assert_true(rv_index_contains(loaded, ids[i]));
    rv_index_free(loaded);
    free(b.data);

    assert_ok(rv_index_remove(index, &ids[40], 1, NULL, err)); /* they fit again */
    memmove(ids + 40, ids + 41, (n - 41) * sizeof *ids);
    memmove(rows + 40 * dim, rows + 41 * dim, (n - 41) * dim * sizeof *rows);
    b = bytes_of(index);
    assert_version_1(&b, o.seed, 7, rows, ids, n - 1, dim);
    rv_index_free(index);
    free(b.data);

    index = build_with(&o, NULL, NULL, 0);
    b = bytes_of(index);
    assert_version_1(&b, o.seed, 7, NULL, NULL, 0, dim);
    rv_index_free(index);
    free(b.data);
    free(rows);
}

static void others_do_not(void **state) {
    (void)state;
    float *rows = normal_rows(1, 10, 4);
    for (size_t kind = 0; kind < 4; kind++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            rv_index *index = build(kinds[kind], (rv_metric)metric, 4, rows, NULL, 10);
            file_bytes b = bytes_of(index);
            bool v1 = memcmp(b.data, "rbpx0001", 8) == 0;
            assert_int_equal(v1, kinds[kind] == RV_PLUS && metric == RV_L2);
            rv_index_free(index);
            free(b.data);
        }
    }
    free(rows);
}

static void ends_with_its_digest(void **state) {
    (void)state;
    float *rows = normal_rows(1, 20000, 16); /* more than one leaf */
    for (size_t kind = 0; kind < 4; kind++) {
        rv_index *index = build(kinds[kind], RV_L2, 16, rows, NULL, 20000);
        file_bytes b = bytes_of(index);
        uint8_t digest[RVB_DIGEST_BYTES];
        assert_int_equal(b.size % 64, 40);
        assert_ok(rvb_tree_digest(NULL, b.data, b.size - 40, digest, err));
        assert_memory_equal(b.data + b.size - 40, digest, sizeof digest);
        assert_memory_equal(b.data + b.size - 8, "RVXBEND1", 8);
        rv_index_free(index);
        free(b.data);
    }
    free(rows);
}

static void serialize_needs_the_right_size(void **state) {
    (void)state;
    float *rows = normal_rows(1, 10, 4);
    rv_index *index = build(RV_PLUS, RV_L2, 4, rows, NULL, 10);
    uint64_t size = rv_index_serialized_size(index);
    uint8_t *out = need(size + 1, 1);
    assert_fails(RV_ERR_ARGUMENT, rv_index_serialize(index, out, size - 1, err));
    assert_fails(RV_ERR_ARGUMENT, rv_index_serialize(index, out, size + 1, err));
    for (size_t i = 0; i <= size; i++) assert_int_equal(out[i], 0);
    rv_error error;
    assert_int_equal(rv_index_serialize(index, out, 0, &error), RV_ERR_ARGUMENT);
    assert_int_equal(error.expected, size);
    free(out);
    rv_index_free(index);
    free(rows);
}

/* ---- files ---- */

typedef struct place {
    char directory[64], path[96];
} place;

static int make_place(void **state) {
    place *p = need(1, sizeof *p);
    strcpy(p->directory, "/tmp/ruvector-test-XXXXXX");
    assert_non_null(mkdtemp(p->directory));
    snprintf(p->path, sizeof p->path, "%s/index.rbpx", p->directory);
    *state = p;
    return 0;
}

static size_t files_in(const char *directory) {
    size_t n = 0;
    DIR *d = opendir(directory);
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n - 2; /* itself and its parent */
}

static int remove_place(void **state) {
    place *p = *state;
    chmod(p->directory, 0700);
    unlink(p->path);
    assert_int_equal(rmdir(p->directory), 0); /* nothing else was left */
    free(p);
    return 0;
}

static rv_index *load(const char *path, int use_mmap) {
    rv_index *index = NULL;
    assert_ok(rv_index_load(path, use_mmap, RV_VERIFY_ALWAYS, &index, err));
    return index;
}

static void saved_bytes_are_the_serialized_ones(void **state) {
    const place *p = *state;
    float *rows = normal_rows(1, 9000, 50); /* several buffers */
    for (size_t kind = 0; kind < 4; kind++) {
        rv_build_options o = coded_options(kinds[kind], RV_L2, 50, 1, 100);
        if (kinds[kind] == RV_ASYM) o.bits = 3;
        rv_index *index = build_with(&o, rows, NULL, 9000);
        assert_ok(rv_index_save(index, p->path, err));
        assert_int_equal(files_in(p->directory), 1);
        file_bytes b = bytes_of(index), on_disk = {need(b.size + 1, 1), 0};
        FILE *file = fopen(p->path, "rb");
        assert_non_null(file);
        on_disk.size = fread(on_disk.data, 1, b.size + 1, file);
        fclose(file);
        assert_same_bytes(&b, &on_disk);
        for (int use_mmap = 0; use_mmap <= 1; use_mmap++) {
            rv_index *loaded = load(p->path, use_mmap);
            assert_true(rv_index_equal(index, loaded));
            answer a = answer_of(index, rows, 5, 50, 10, NULL);
            answer c = answer_of(loaded, rows, 5, 50, 10, NULL);
            assert_same_answer(&a, &c);
            answer_free(&a);
            answer_free(&c);
            rv_memory_usage memory = RV_MEMORY_USAGE_DEFAULT;
            assert_ok(rv_index_memory(loaded, &memory, err));
            assert_int_equal(memory.mapped > 0, use_mmap);
            rv_index_free(loaded);
        }
        free(b.data);
        free(on_disk.data);
        rv_index_free(index);
    }
    free(rows);
}

/* A note comes back with the file and is not passed on; records carry row numbers. */
static void notes_and_row_numbers(void **state) {
    const place *p = *state;
    const uint64_t ids[3] = {7, UINT64_C(1) << 40, 3};
    const char note[] = "a note";
    float *rows = normal_rows(1, 3, 2);
    rv_index *index = build(RV_PLUS, RV_L2, 2, rows, ids, 3);
    rv_save_options o = RV_SAVE_DEFAULT;
    o.row_numbers = 1;
    o.note = note;
    o.note_size = sizeof note;
    assert_ok(rv_index_save_as(index, p->path, &o, err));
    FILE *file = fopen(p->path, "rb");
    uint8_t start[32 + 3 * 12];
    assert_int_equal(fread(start, 1, sizeof start, file), sizeof start);
    fclose(file);
    for (uint32_t row = 0; row < 3; row++) assert_int_equal(start[32 + row * 12], row);
    rv_index *loaded = load(p->path, 1);
    char back[16] = {0};
    assert_int_equal(rv_index_note(loaded, back, sizeof back), sizeof note);
    assert_string_equal(back, note);
    assert_int_equal(rv_index_note(loaded, back, 0), sizeof note);
    assert_true(rv_index_contains(loaded, ids[1]));
    file_bytes plain = bytes_of(index), again = bytes_of(loaded);
    assert_same_bytes(&plain, &again);
    free(plain.data);
    free(again.data);
    rv_index_free(loaded);
    o.note_size = RV_MAX_NOTE + 1;
    assert_fails(RV_ERR_ARGUMENT, rv_index_save_as(index, p->path, &o, err));
    o.size--;
    assert_fails(RV_ERR_ARGUMENT, rv_index_save_as(index, p->path, &o, err));
    rv_index_free(index);
    free(rows);
}

/* The file an index is mapped from may be replaced, even by the index itself. */
static void saving_over_a_mapped_file(void **state) {
    const place *p = *state;
    const size_t n = 3000;
    float *rows = normal_rows(1, n, 20);
    rv_index *first = build(RV_PLUS, RV_L2, 20, rows, NULL, n);
    assert_ok(rv_index_save(first, p->path, err));
    rv_index *mapped = load(p->path, 1);
    assert_ok(rv_index_save(mapped, p->path, err));
    assert_true(rv_index_equal(first, mapped));
    rv_view view = RV_VIEW_DEFAULT;
    assert_ok(rv_index_view(mapped, &view, err));
    assert_ok(rv_index_add(mapped, &(rv_rows){rows, NULL, 100, 20}, NULL, err));
    assert_ok(rv_index_remove(mapped, (uint64_t[]){0, 5}, 2, NULL, err));
    assert_ok(rv_index_save(mapped, p->path, err));
    rv_index *second = load(p->path, 1);
    assert_true(rv_index_equal(second, mapped));
    assert_false(rv_index_equal(second, first));
    rv_index *other = build(RV_FLAT, RV_IP, 3, rows, NULL, 2);
    assert_ok(rv_index_save(other, p->path, err)); /* shorter */
    assert_true(rv_index_equal(second, mapped));
    rv_index_free(mapped);
    for (size_t i = 0; i < n; i++)
        assert_memory_equal((const char *)view.data + i * view.stride_bytes,
                            rows + i * 20, 80);
    rv_view_release(&view);
    rv_index_free(first);
    rv_index_free(second);
    rv_index_free(other);
    assert_int_equal(files_in(p->directory), 1);
    free(rows);
}

static void a_failed_save_leaves_the_old_file(void **state) {
    const place *p = *state;
    float *rows = normal_rows(1, 10, 4);
    rv_index *index = build(RV_PLUS, RV_L2, 4, rows, NULL, 10);
    rv_index *other = build(RV_PLUS, RV_L2, 4, rows, NULL, 9);
    assert_ok(rv_index_save(index, p->path, err));
    rv_error error;
    assert_int_equal(rv_index_save(other, "/nonexistent/directory/x", &error), RV_ERR_IO);
    assert_int_equal(error.os_errno, ENOENT);
    assert_non_null(strstr(error.path, "directory/x"));
    assert_int_equal(rv_index_save(other, p->directory, &error), RV_ERR_IO);
    if (geteuid() != 0) { /* whom permissions do not stop */
        assert_int_equal(chmod(p->directory, 0500), 0);
        assert_int_equal(rv_index_save(other, p->path, &error), RV_ERR_IO);
        assert_int_equal(error.os_errno, EACCES);
        assert_int_equal(chmod(p->directory, 0700), 0);
    }
    if (access("/dev/full", W_OK) == 0) { /* refused, not written to */
        assert_int_equal(rv_index_save(other, "/dev/full", &error), RV_ERR_IO);
    }
    struct rlimit before, small; /* a file system that fills up in mid-write */
    float *more = normal_rows(1, 50000, 4);
    rv_index *large = build(RV_PLUS, RV_L2, 4, more, NULL, 50000);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 600000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(rv_index_save(large, p->path, &error), RV_ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(error.os_errno, EFBIG);
    assert_int_equal(files_in(p->directory), 1);
    rv_index_free(large);
    free(more);
    rv_index *loaded = load(p->path, 0);
    assert_true(rv_index_equal(loaded, index));
    rv_index_free(loaded);
    assert_int_equal(rv_index_load("/nonexistent/x", 1, RV_VERIFY_AUTO, &loaded, &error),
                     RV_ERR_IO);
    assert_null(loaded);
    assert_int_equal(error.os_errno, ENOENT);
    assert_non_null(strstr(error.path, "nonexistent/x"));
    rv_index_free(index);
    rv_index_free(other);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(round_trips_of_wider_codes),
        cmocka_unit_test(emptied_indexes),
        cmocka_unit_test(removed_rows_leave_no_trace),
        cmocka_unit_test(plus_starts_with_version_1),
        cmocka_unit_test(others_do_not),
        cmocka_unit_test(ends_with_its_digest),
        cmocka_unit_test(serialize_needs_the_right_size),
        cmocka_unit_test_setup_teardown(saved_bytes_are_the_serialized_ones, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(notes_and_row_numbers, make_place, remove_place),
        cmocka_unit_test_setup_teardown(saving_over_a_mapped_file, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(a_failed_save_leaves_the_old_file, make_place,
                                        remove_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
