/*
 * test_index_memory.c - every call with every one of its allocations refused: it says
 * so, changes nothing, loses nothing, and works when tried again. And what the index
 * says it takes, against what the allocator gave.
 */
#define _GNU_SOURCE /* mkdtemp */
#include "index_cases.h"

#include "base/base.h"
#include "failing_allocator.h"
#include "test_folder.h"

#define DIM 6u
#define N 700u

static const rv_kind kinds[] = {RV_FLAT, RV_RABITQ, RV_PLUS, RV_ASYM};

typedef struct fixture {
    float *rows;
    uint64_t ids[N];
    file_bytes sample; /* the index every call starts from */
    file_bytes version_1;
    char path[PATH_BYTES];
} fixture;

static fixture fix;

static int set_up(void **state) {
    fix.rows = clustered_rows(1, 2 * N, DIM);
    uint64_t *ids = scattered_ids(1, N);
    memcpy(fix.ids, ids, sizeof fix.ids);
    free(ids);
    fix.version_1.size = 32 + 100 * (4 + 4 * DIM);
    fix.version_1.data = need(fix.version_1.size, 1);
    memcpy(fix.version_1.data, "rbpx0001", 8);
    rvb_put_u32(fix.version_1.data + 12, DIM);
    rvb_put_u32(fix.version_1.data + 28, 100);
    for (uint32_t i = 0; i < 100; i++) /* ids fall, so that a table is made */
        rvb_put_u32(fix.version_1.data + 32 + i * (4 + 4 * DIM), 1000 - i);
    assert_int_equal(make_folder(state), 0);
    in_folder(fix.path, "x");
    return rv_set_num_threads(1, NULL) != RV_OK; /* the order of allocations is fixed */
}

static int tear_down(void **state) {
    free(fix.rows);
    free(fix.version_1.data);
    return remove_folder(state) != 0 || rv_set_num_threads(0, NULL) != RV_OK;
}

/* ---- the calls ---- */

typedef rv_status (*call)(rv_index *index, rv_error *err);

static rv_status call_add(rv_index *index, rv_error *err) {
    return rv_index_add(index, &(rv_rows){fix.rows, NULL, N, DIM}, NULL, err);
}

static rv_status call_add_own_ids(rv_index *index, rv_error *err) {
    static const uint64_t ids[] = {500000001, 7000001, 500000007};
    return rv_index_add(index, &(rv_rows){fix.rows, ids, 3, DIM}, NULL, err);
}

static rv_status call_upsert(rv_index *index, rv_error *err) {
    return rv_index_upsert(index, &(rv_rows){fix.rows, fix.ids, N / 2, DIM}, NULL, err);
}

static rv_status call_remove(rv_index *index, rv_error *err) {
    return rv_index_remove(index, fix.ids + 20, 100, NULL, err);
}

static rv_status call_vacuum(rv_index *index, rv_error *err) {
    return rv_index_vacuum(index, err);
}

static rv_status search(rv_index *index, const rv_search_options *o, size_t k,
                        rv_error *err) {
    uint64_t ids[3 * 50];
    float scores[3 * 50];
    return rv_index_search(index, &(rv_queries){fix.rows, 3, DIM}, k, o,
                           &(rv_result){ids, scores}, err);
}

static rv_status call_search(rv_index *index, rv_error *err) {
    return search(index, NULL, 10, err);
}

static rv_status call_search_by_ids(rv_index *index, rv_error *err) {
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.allow_ids = fix.ids;
    o.allow_count = N / 2;
    return search(index, &o, 50, err);
}

static rv_status call_search_by_masks(rv_index *index, rv_error *err) {
    static uint8_t masks[3 * N] = {1, 1, 1};
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.allow_mask = masks;
    o.allow_mask_len = live_rows(index);
    o.allow_mask_per_query = 1;
    return search(index, &o, 10, err);
}

static rv_status call_search_reranked(rv_index *index, rv_error *err) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    (void)rv_index_get_info(index, &info, err);
    rv_search_options o = RV_SEARCH_DEFAULT;
    if (info.code_bytes && info.has_vectors) o.rerank_factor = 5;
    return search(index, &o, 10, err);
}

static rv_status call_search_capped(rv_index *index, rv_error *err) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    (void)rv_index_get_info(index, &info, err);
    rv_search_options o = RV_SEARCH_DEFAULT;
    if (info.code_bytes && info.has_vectors) o.max_rerank = 40;
    return search(index, &o, 10, err);
}

static rv_status call_serialize(rv_index *index, rv_error *err) {
    uint64_t size = rv_index_serialized_size(index);
    void *out = need(size, 1);
    rv_status status = rv_index_serialize(index, out, size, err);
    free(out);
    return status;
}

static rv_status call_save(rv_index *index, rv_error *err) {
    return rv_index_save(index, fix.path, err);
}

static rv_status load_and_free(rv_index *other, rv_status status) {
    assert_true((status == RV_OK) == (other != NULL));
    rv_index_free(other);
    return status;
}

static rv_status call_load(rv_index *index, rv_error *err) {
    rv_index *other = NULL;
    (void)index;
    rv_status status = rv_index_load(fix.path, 0, RV_VERIFY_ALWAYS, &other, err);
    return load_and_free(other, status);
}

static rv_status call_load_mapped(rv_index *index, rv_error *err) {
    rv_index *other = NULL;
    (void)index;
    rv_status status = rv_index_load(fix.path, 1, RV_VERIFY_ALWAYS, &other, err);
    return load_and_free(other, status);
}

static void count_release(void *ctx) { ++*(int *)ctx; }

static rv_status from_memory(const file_bytes *b, size_t shift, rv_error *err) {
    int released = 0;
    rv_index *other = NULL;
    uint8_t *memory = need(b->size + shift, 1);
    memcpy(memory + shift, b->data, b->size);
    rv_status status = rv_index_from_memory(memory + shift, b->size, RV_VERIFY_ALWAYS,
                                            count_release, &released, &other, err);
    load_and_free(other, status);
    assert_int_equal(released, 1);
    free(memory);
    return status;
}

static rv_status call_from_memory(rv_index *index, rv_error *err) {
    (void)index;
    return from_memory(&fix.sample, 0, err);
}

static rv_status call_from_misaligned(rv_index *index, rv_error *err) {
    (void)index;
    return from_memory(&fix.sample, 1, err);
}

static rv_status call_from_version_1(rv_index *index, rv_error *err) {
    (void)index;
    return from_memory(&fix.version_1, 0, err);
}

static rv_build_options current;

static rv_status call_build(rv_index *index, rv_error *err) {
    rv_index *other = NULL;
    (void)index;
    rv_status status = rv_index_build(
        &current, &(rv_rows){fix.rows, fix.ids, N, current.dim}, &other, err);
    return load_and_free(other, status);
}

static rv_status call_search_probing(rv_index *index, rv_error *err) {
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.nprobe = 1;
    return search(index, &o, 50, err); /* more than one list holds */
}

static rv_status call_tune(rv_index *index, rv_error *err) {
    rv_tuning tuning = RV_TUNING_DEFAULT;
    return rv_index_tune(index, &(rv_queries){fix.rows, 4, DIM}, 3, 0.5, NULL, &tuning,
                         err);
}

static rv_status call_view(rv_index *index, rv_error *err) {
    rv_view view = RV_VIEW_DEFAULT;
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    (void)rv_index_get_info(index, &info, err);
    if (!info.has_vectors || info.dead) return RV_OK;
    rv_status status = rv_index_view(index, &view, err);
    rv_view_release(&view);
    return status;
}

/* ---- refusing ---- */

static rv_index *start(bool searched, bool with_removed) {
    rv_index *index = from_bytes(&fix.sample);
    if (searched) assert_ok(call_search(index, err)); /* scan blocks are there */
    if (with_removed) assert_ok(rv_index_remove(index, fix.ids, 10, NULL, err));
    return index;
}

/* How many allocations were refused. */
static size_t refuse_each(call what, const char *name, bool searched, bool with_removed) {
    size_t refused = 0;
    for (size_t n = 1;; n++) {
        failing_allocator_install(0);
        rv_index *index = start(searched, with_removed);
        file_bytes before = bytes_of(index);
        failing_allocator_install(n);
        rv_error error = {0};
        rv_status status = what(index, &error);
        bool reached = failing_allocator_calls() >= n;
        failing_allocator_install(0);
        if (!reached) {
            assert_int_equal(status, RV_OK);
        } else if (status != RV_OK) {
            if (status != RV_ERR_MEMORY)
                fail_msg("%s, allocation %zu: %s: %s", name, n, rv_status_name(status),
                         error.message);
            assert_int_equal(error.code, RV_ERR_MEMORY);
            file_bytes after = bytes_of(index);
            assert_same_bytes(&before, &after);
            free(after.data);
            assert_ok(call_search(index, err));
            assert_ok(what(index, err));
        } else { /* upkeep that can wait */
            assert_ok(call_search(index, err));
        }
        free(before.data);
        rv_index_free(index);
        if (failing_allocator_live() != 0)
            fail_msg("%s, allocation %zu: %zu blocks lost", name, n,
                     failing_allocator_live());
        failing_allocator_remove();
        if (!reached) return refused;
        refused += status != RV_OK;
    }
}

typedef struct what_to_refuse {
    const char *name;
    call what;
    bool needs_removed;
    size_t at_least; /* allocations it cannot do without, in some kind */
} what_to_refuse;
static const what_to_refuse calls[] = {
    {"build", call_build, false, 5},
    {"add", call_add, false, 3},
    {"add own ids", call_add_own_ids, false, 2},
    {"upsert", call_upsert, false, 3},
    {"remove", call_remove, false, 1},
    {"vacuum", call_vacuum, true, 2},
    {"search", call_search, false, 2},
    {"search by ids", call_search_by_ids, false, 3},
    {"search by masks", call_search_by_masks, false, 5},
    {"search reranked", call_search_reranked, false, 2},
    {"search capped", call_search_capped, false, 2},
    {"save", call_save, false, 1},
    {"load", call_load, false, 3},
    {"load mapped", call_load_mapped, false, 3},
    {"from memory", call_from_memory, false, 3},
    {"from misaligned", call_from_misaligned, false, 4},
    {"from version 1", call_from_version_1, false, 5}};
/* These need none at all. */
static const struct {
    const char *name;
    call what;
} frugal[] = {{"serialize", call_serialize}, {"view", call_view}};

static void refuse_all(const what_to_refuse *what, size_t n, int modes) {
    rv_index *index = build_with(&current, fix.rows, fix.ids, N);
    fix.sample = bytes_of(index);
    assert_ok(rv_index_save(index, fix.path, err));
    for (size_t c = 0; c < n; c++) {
        size_t refused = 0;
        for (int mode = 0; mode < modes; mode++)
            refused += refuse_each(what[c].what, what[c].name, mode & 1,
                                   mode & 2 || what[c].needs_removed);
        if (refused < what[c].at_least)
            fail_msg("%s: only %zu refusals", what[c].name, refused);
    }
    for (size_t c = 0; c < sizeof frugal / sizeof *frugal; c++)
        assert_int_equal(refuse_each(frugal[c].what, frugal[c].name, false, false), 0);
    free(fix.sample.data);
    rv_index_free(index);
}

static void every_allocation_refused(void **state) {
    (void)state;
    for (size_t kind = 0; kind < 4; kind++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            if (sized(8) < 8 && (size_t)metric != kind % 3) continue;
            current = coded_options(kinds[kind], (rv_metric)metric, DIM, 1, 4);
            if (kind >= 2 && metric == RV_IP) current.originals_bits = 16;
            refuse_all(calls, sizeof calls / sizeof *calls, 4);
        }
    }
}

static void with_many_lists_and_wide_codes(void **state) {
    (void)state;
    static const what_to_refuse some[] = {
        {"build", call_build, false, 10},
        {"add", call_add, false, 5},
        {"upsert", call_upsert, false, 3},
        {"search", call_search, false, 4},
        {"search probing", call_search_probing, false, 4},
        {"search reranked", call_search_reranked, false, 4},
        {"search capped", call_search_capped, false, 4},
        {"tune", call_tune, false, 60},
        {"load", call_load, false, 5}};
    for (size_t kind = 1; kind < 3; kind++) {
        if (sized(8) < 8 && kind != 2) continue;
        current = coded_options(kinds[kind], (rv_metric)kind, DIM, kind == 1 ? 5 : 2, 20);
        refuse_all(some, sizeof some / sizeof *some, 2);
    }
}

/* The pool's own allocations, and bodies that fail on any thread. */
static void refused_on_several_threads(void **state) {
    (void)state;
    assert_ok(rv_set_num_threads(3, err));
    float *rows = clustered_rows(5, 6000, DIM);
    rv_build_options o = options_for(RV_PLUS, RV_IP, DIM);
    for (size_t n = 1, reached = 1; reached; n++) {
        failing_allocator_install(n);
        rv_index *index = NULL;
        rv_status status =
            rv_index_build(&o, &(rv_rows){rows, NULL, 6000, o.dim}, &index, NULL);
        uint64_t ids[64 * 5];
        float scores[64 * 5];
        assert_true(status == RV_OK || status == RV_ERR_MEMORY);
        if (index) {
            status = rv_index_search(index, &(rv_queries){rows, 64, DIM}, 5, NULL,
                                     &(rv_result){ids, scores}, NULL);
            assert_true(status == RV_OK || status == RV_ERR_MEMORY);
        }
        rv_index_free(index);
        reached = failing_allocator_calls() >= n;
        failing_allocator_remove();
        if (!reached) assert_int_equal(status, RV_OK);
    }
    free(rows);
    assert_ok(rv_set_num_threads(1, err));
}

/* ---- accounting ---- */

/* Not counted: what the allocator adds to align blocks (71 bytes each), reference
 * counts, locks, and of files what is not rows. */
static void assert_accounted(const rv_index *index, const char *when) {
    rv_memory_usage m = RV_MEMORY_USAGE_DEFAULT;
    assert_ok(rv_index_memory(index, &m, err));
    assert_int_equal(m.total,
                     m.codes + m.blocks + m.vectors + m.ids + m.rotation + m.slack);
    assert_true(m.mapped <= m.total);
    double given = (double)failing_allocator_live_bytes() + (double)m.mapped -
                   71 * (double)failing_allocator_live();
    double told = (double)m.total;
    bool in_file = strstr(when, "mapped") || strstr(when, "loaded");
    double allowed = in_file ? 0.01 * given + 6000 + (double)m.rotation : 2000;
    if (fabs(given - told) > allowed)
        fail_msg("%s: %.0f bytes allocated or mapped, %.0f reported", when, given, told);
}

static void memory_is_accounted_for(void **state) {
    (void)state;
    const size_t n = 6000, dim = 40;
    float *rows = clustered_rows(1, n, dim);
    uint64_t *ids = scattered_ids(1, n);
    static const uint32_t lists[] = {0, 60, RV_MAX_LISTS};
    for (size_t kind = 0; kind < 4; kind++) {
        for (size_t run = 0; run < 3; run++) {
            failing_allocator_install(0);
            rv_build_options o = coded_options(kinds[kind], (rv_metric)(run % 2), dim,
                                               1 + (uint32_t)run * 2, lists[run]);
            if (kind >= 2 && run == 1) o.originals_bits = 16;
            rv_index *index = build_with(&o, NULL, NULL, 0);
            assert_accounted(index, "empty");
            assert_ok(rv_index_add(index, &(rv_rows){rows, ids, 4000, 40}, NULL, err));
            assert_accounted(index, "built");
            answer a = answer_of(index, rows, 1, dim, 1, NULL);
            answer_free(&a);
            assert_accounted(index, "searched");
            assert_ok(
                rv_index_add(index, &(rv_rows){rows, ids + 4000, 100, 40}, NULL, err));
            assert_accounted(index, "grown"); /* with room to spare */
            rv_memory_usage m = RV_MEMORY_USAGE_DEFAULT;
            assert_ok(rv_index_memory(index, &m, err));
            assert_true(m.slack > 50000);
            assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, 1000, 40}, NULL, err));
            assert_accounted(index, "grown again"); /* lists have left their places */
            assert_ok(rv_index_remove(index, ids, 900, NULL, err));
            assert_accounted(index, "removed");
            assert_ok(rv_index_vacuum(index, err));
            assert_accounted(index, "vacuumed");
            a = answer_of(index, rows, 1, dim, 1, NULL);
            answer_free(&a);
            assert_accounted(index, "searched again");
            assert_ok(rv_index_save(index, fix.path, err));
            rv_index_free(index);
            assert_int_equal(failing_allocator_live(), 0);
            for (int use_mmap = 0; use_mmap <= 1; use_mmap++) {
                assert_ok(
                    rv_index_load(fix.path, use_mmap, RV_VERIFY_ALWAYS, &index, err));
                assert_accounted(index, use_mmap ? "mapped" : "loaded");
                assert_ok(
                    rv_index_add(index, &(rv_rows){rows, NULL, 500, 40}, NULL, err));
                assert_accounted(index, "grown out of the file");
                rv_index_free(index);
                assert_int_equal(failing_allocator_live(), 0);
            }
            failing_allocator_remove();
        }
    }
    free(rows);
    free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_refused),
        cmocka_unit_test(with_many_lists_and_wide_codes),
        cmocka_unit_test(refused_on_several_threads),
        cmocka_unit_test(memory_is_accounted_for),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
