/*
 * test_snapshot.c - an entry written and read back, and everything that must not be
 * taken for one; ready indexes as entries.
 */
#define _GNU_SOURCE
#include "lake_cases.h"
#include "test_folder.h"

static const char *place(const char *name) {
    static char path[4][512];
    static unsigned turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

static rv_lake *stale_lake(void) {
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.consistency = RV_STALE;
    return new_lake(&o);
}

static const uint64_t sparse[5] = {7, 42, 99, 2000, UINT64_C(1) << 40};

static rv_backend *local_docs(const char *id, uint64_t seed) {
    rv_backend *backend;
    float *rows = normal_rows(seed, 5, LAKE_DIM);
    assert_ok(rv_local_backend_new(id, &backend, err));
    assert_ok(rv_local_put(backend, "docs", &(rv_rows){rows, sparse, 5, LAKE_DIM}, err));
    free(rows);
    return backend;
}

static const rv_key key = {"mem", "docs"};

static void save_docs(uint64_t seed, const char *directory) {
    rv_lake *lake = new_lake(NULL);
    rv_backend *backend = local_docs("mem", seed);
    rv_witness witness;
    assert_ok(rv_lake_register(lake, backend, err));
    rv_backend_free(backend);
    assert_fails(RV_ERR_NOT_FOUND, rv_lake_save(lake, key, directory, err));
    assert_ok(rv_lake_prime(lake, key, NULL, witness, err));
    assert_ok(rv_lake_save(lake, key, directory, err));
    rv_lake_free(lake);
}

static void ids_and_scores_come_back(void **state) {
    (void)state;
    save_docs(1, place("s"));
    float *rows = normal_rows(1, 5, LAKE_DIM);
    rv_lake *lake = stale_lake();
    uint64_t n, id;
    float score;
    for (int twice = 0; twice < 2; twice++) {
        assert_ok(rv_lake_warm(lake, key, place("s"), &n, err));
        assert_int_equal(n, 5);
        for (size_t i = 0; i < 5; i++) {
            assert_ok(rv_lake_search(lake, key,
                                     &(rv_queries){rows + i * LAKE_DIM, 1, LAKE_DIM}, 1,
                                     &(rv_result){&id, &score}, err));
            assert_true(id == sparse[i] && score == 0);
        }
    }
    rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
    assert_ok(rv_lake_get_stats(lake, &stats, err));
    assert_int_equal(stats.warm_installs, 1);
    assert_int_equal(stats.primes, 0);
    assert_int_equal(stats.hits, 10);
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_lake_get_entry(lake, key, &info, err));
    assert_false(info.ids_unverified);
    free(rows);
    rv_lake_free(lake);
}

/* What is written is what the entry was built from, whatever the backend holds now. */
static void saved_after_the_source_moved_on(void **state) {
    (void)state;
    source s = {.id = "mem", .data_ref = "x://mem", .rows = 4, .generation = 1};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    found_at(lake, docs_of(&s), 1, 2);
    rv_entry_info built = RV_ENTRY_INFO_DEFAULT, warm = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_lake_get_entry(lake, key, &built, err));
    s.generation = 6;
    assert_ok(rv_lake_save(lake, key, place("s"), err));
    rv_lake *other = new_lake(NULL);
    add_source(other, &s);
    uint64_t n;
    assert_ok(rv_lake_warm(other, key, place("s"), &n, err));
    assert_ok(rv_lake_get_entry(other, key, &warm, err));
    assert_string_equal(warm.witness, built.witness);
    uint64_t pulls = s.pulls;
    found_at(other, docs_of(&s), 6, 2); /* noticed, and pulled */
    assert_int_equal(s.pulls, pulls + 1);
    rv_lake_free(other);
    rv_lake_free(lake);
}

/* Vectors changed under the same witness are noticed; where they lie does not matter. */
static void saved_before_a_change_the_witness_does_not_tell(void **state) {
    (void)state;
    source s = {.id = "mem", .data_ref = "x://mem", .rows = 4, .has_token = true};
    const char *const folders[] = {place("s"), place("t")};
    s.generation = s.token = 1;
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    found_at(lake, docs_of(&s), 1, 2);
    assert_ok(rv_lake_save(lake, key, folders[0], err));
    /* first the one saved above, then one saved as it came from that */
    for (unsigned again = 0; again < 2; again++) {
        for (unsigned change = 0; change < 4; change++) {
            s.token = 1 + change % 2;
            s.place = change / 2;
            rv_lake *other = new_lake(NULL);
            add_source(other, &s);
            uint64_t n, pulls = s.pulls;
            assert_ok(rv_lake_warm(other, key, folders[again], &n, err));
            assert_ok(rv_lake_save(other, key, folders[1], err));
            for (int twice = 0; twice < 2; twice++) {
                found_at(other, docs_of(&s), 1, 2);
                assert_int_equal(s.pulls, pulls + change % 2);
            }
            rv_lake_free(other);
        }
    }
    rv_lake_free(lake);
}

/* What is there has been compared with the source, and a snapshot has not. */
static void a_snapshot_takes_the_place_of_nothing_newer(void **state) {
    (void)state;
    source s = {.id = "mem", .data_ref = "x://mem", .rows = 4, .has_token = true};
    s.generation = s.token = 1;
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    found_at(lake, docs_of(&s), 1, 2);
    assert_ok(rv_lake_save(lake, key, place("s"), err));
    s.token = 2;
    found_at(lake, docs_of(&s), 1, 2);
    uint64_t n, pulls = s.pulls;
    assert_ok(rv_lake_warm(lake, key, place("s"), &n, err));
    found_at(lake, docs_of(&s), 1, 2);
    assert_int_equal(s.pulls, pulls);
    rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
    assert_ok(rv_lake_get_stats(lake, &stats, err));
    assert_int_equal(stats.warm_installs, 0);
    rv_lake_free(lake);
}

static void rename_to(const char *from, const char *to) {
    char a[512], b[512];
    snprintf(a, sizeof a, "%s", place(from));
    snprintf(b, sizeof b, "%s", place(to));
    remove(b); /* Windows' rename replaces nothing */
    assert_int_equal(rename(a, b), 0);
}

static void assert_refused(rv_status wanted, const char *directory) {
    rv_lake *lake = stale_lake();
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    uint64_t n;
    assert_fails(wanted, rv_lake_warm(lake, key, place(directory), &n, err));
    assert_fails(RV_ERR_NOT_FOUND, rv_lake_get_entry(lake, key, &info, err));
    assert_int_equal(rv_lake_entry_count(lake), 0);
    rv_lake_free(lake);
}

/* Two files each of which is sound, but not with the other: as after a crash between
 * them, or by somebody's hand. */
static void files_that_do_not_belong_together(void **state) {
    (void)state;
    source s = {.id = "mem", .data_ref = "x://mem", .rows = 4, .generation = 1};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    found_at(lake, docs_of(&s), 1, 2);
    assert_ok(rv_lake_save(lake, key, place("old"), err));
    s.generation = 2;
    found_at(lake, docs_of(&s), 2, 2);
    assert_ok(rv_lake_save(lake, key, place("new"), err));
    rv_lake_free(lake);
    rename_to("new/" RV_SNAPSHOT_FILE, "old/" RV_SNAPSHOT_FILE);
    assert_refused(RV_ERR_WITNESS, "old");
    assert_refused(RV_ERR_IO, "new"); /* no index any more */
    assert_refused(RV_ERR_IO, "nowhere");
}

static void rewrite_bundle(const char *directory, uint64_t dim, uint64_t seed,
                           uint64_t rerank) {
    rv_bundle *b;
    assert_ok(rv_bundle_read(place(directory), &b, err));
    rv_bundle changed = *b, *sealed;
    changed.dim = dim;
    changed.rotation_seed = seed;
    changed.rerank_factor = rerank;
    assert_ok(rv_bundle_sealed(&changed, &sealed, err));
    assert_ok(rv_bundle_write(sealed, place(directory), err));
    rv_bundle_free(sealed);
    rv_bundle_free(b);
}

static void bundles_that_say_something_else(void **state) {
    (void)state;
    save_docs(1, place("s"));
    rewrite_bundle("s", LAKE_DIM + 1, 42, 20);
    assert_refused(RV_ERR_WITNESS, "s");
    rewrite_bundle("s", LAKE_DIM, 43, 20);
    assert_refused(RV_ERR_WITNESS, "s");
    rewrite_bundle("s", LAKE_DIM, 42, 21);
    assert_refused(RV_ERR_WITNESS, "s");
    rewrite_bundle("s", LAKE_DIM, 42, 20);
    rv_lake *lake = stale_lake();
    uint64_t n;
    assert_ok(rv_lake_warm(lake, key, place("s"), &n, err));
    rv_lake_free(lake);
}

static void flip_byte(const char *name, long at) {
    FILE *file = fopen(place(name), "r+b");
    assert_non_null(file);
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ 1, file);
    fclose(file);
}

static void altered_vectors(void **state) {
    (void)state;
    save_docs(1, place("s"));
    flip_byte("s/" RV_SNAPSHOT_FILE, 40); /* of the first vector */
    assert_refused(RV_ERR_WITNESS, "s");
    flip_byte("s/" RV_SNAPSHOT_FILE, 40);
    flip_byte("s/" RV_SNAPSHOT_FILE, 3); /* of the magic */
    assert_refused(RV_ERR_FORMAT, "s");
}

/* A version-1 file, as the Rust crate writes one. */
static void write_version_1(const char *path, const uint32_t *ids, const float *rows,
                            uint32_t n) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    const uint32_t head[2] = {1, LAKE_DIM}, tail[2] = {20, n};
    const uint64_t seed = 42;
    fwrite("rbpx0001", 1, 8, file);
    fwrite(head, 4, 2, file);
    fwrite(&seed, 8, 1, file);
    fwrite(tail, 4, 2, file);
    for (uint32_t i = 0; i < n; i++) {
        fwrite(&ids[i], 4, 1, file);
        fwrite(rows + i * LAKE_DIM, 4, LAKE_DIM, file);
    }
    fclose(file);
}

/* Rows are mapped by position, never by id; and where ids may have been lost, it shows.
 */
static void snapshots_of_version_1(void **state) {
    (void)state;
    save_docs(1, place("s"));
    const uint32_t permuted[5] = {4, 2, 0, 90, 1}, plain[5] = {0, 1, 2, 3, 4};
    float *rows = normal_rows(9, 5, LAKE_DIM), score;
    for (int round = 0; round < 2; round++) {
        const uint32_t *ids = round ? plain : permuted;
        write_version_1(place("s/" RV_SNAPSHOT_FILE), ids, rows, 5);
        rv_lake *lake = stale_lake();
        uint64_t n, id;
        assert_ok(rv_lake_warm(lake, key, place("s"), &n, err));
        for (size_t i = 0; i < 5; i++) {
            assert_ok(rv_lake_search(lake, key,
                                     &(rv_queries){rows + i * LAKE_DIM, 1, LAKE_DIM}, 1,
                                     &(rv_result){&id, &score}, err));
            assert_true(id == ids[i] && score == 0);
        }
        rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
        assert_ok(rv_lake_get_entry(lake, key, &info, err));
        assert_int_equal(info.ids_unverified, round);
        rv_lake_free(lake);
    }
    free(rows);
}

/* Generations in memory start anew with each process: equal witness, other vectors. */
static void snapshots_of_another_process(void **state) {
    (void)state;
    save_docs(1, place("s"));
    uint64_t n;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        rv_lake *lake = new_lake(NULL);
        rv_backend *backend = local_docs("mem", seed);
        assert_ok(rv_lake_register(lake, backend, err));
        rv_backend_free(backend);
        if (seed == 1)
            assert_ok(rv_lake_warm(lake, key, place("s"), &n, err));
        else
            assert_fails(RV_ERR_WITNESS, rv_lake_warm(lake, key, place("s"), &n, err));
        rv_lake_free(lake);
    }
}

static void a_ready_index(void **state) {
    (void)state;
    float *rows = normal_rows(1, 20, LAKE_DIM), score;
    uint64_t id;
    rv_lake *lake = new_lake(NULL);
    rv_index *index = build(RV_PLUS, RV_L2, LAKE_DIM, rows, NULL, 20);
    rv_index *twin = build(RV_PLUS, RV_L2, LAKE_DIM, rows, NULL, 20);
    rv_index *other = build(RV_PLUS, RV_L2, LAKE_DIM, rows, NULL, 19);
    rv_index *flat = build(RV_FLAT, RV_L2, LAKE_DIM, rows, NULL, 20);
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.consistency = RV_STALE;
    rv_lake *stale = new_lake(&o);
    assert_false(rv_lake_has_index(stale, index));
    assert_ok(rv_lake_install(stale, key, index, NULL, err));
    assert_true(rv_lake_has_index(stale, index));
    assert_true(rv_lake_has_index(stale, twin));
    assert_false(rv_lake_has_index(stale, other));
    assert_fails(RV_ERR_ARGUMENT, rv_lake_install(stale, key, flat, NULL, err));
    assert_ok(rv_lake_search(stale, key, &(rv_queries){rows, 1, LAKE_DIM}, 1,
                             &(rv_result){&id, &score}, err));
    assert_int_equal(id, 0);
    rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
    assert_ok(rv_lake_get_stats(stale, &stats, err));
    assert_int_equal(stats.primes, 0);
    /* once it has changed it is not the entry any more */
    const uint64_t gone = 0;
    assert_ok(rv_index_remove(index, &gone, 1, NULL, err));
    assert_fails(RV_ERR_NOT_FOUND,
                 rv_lake_search(stale, key, &(rv_queries){rows, 1, LAKE_DIM}, 1,
                                &(rv_result){&id, &score}, err));
    assert_fails(
        RV_ERR_NOT_FOUND,
        rv_lake_get_entry(stale, key, &(rv_entry_info)RV_ENTRY_INFO_DEFAULT, err));

    /* the witness is that of the backend, where it is known */
    source s = {.id = "mem", .data_ref = "x://mem", .rows = 20, .generation = 3};
    add_source(lake, &s);
    assert_ok(rv_lake_install(lake, key, twin, NULL, err));
    rv_bundle *present;
    assert_ok(rv_backend_bundle(rv_lake_backend(lake, 0), "docs", 42, 20, &present, err));
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_lake_get_entry(lake, key, &info, err));
    assert_memory_equal(info.witness, present->witness.data, RV_WITNESS_CHARS);
    assert_ok(rv_lake_search(lake, key, &(rv_queries){rows, 1, LAKE_DIM}, 1,
                             &(rv_result){&id, &score}, err));
    assert_int_equal(s.pulls, 0);
    rv_bundle_free(present);
    rv_index_free(index); /* the lake has its own share */
    rv_index_free(twin);
    rv_index_free(other);
    rv_index_free(flat);
    rv_lake_free(stale);
    rv_lake_free(lake);
    free(rows);
}

static void published_and_refreshed(void **state) {
    (void)state;
    source s = {.id = "mem", .data_ref = "x://mem", .rows = 4, .generation = 1};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_refresh result;
    rv_witness published;
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_lake_refresh(lake, key, place("p"), &result, err));
    assert_int_equal(result, RV_BUNDLE_MISSING);
    const rv_tags tags = {.lineage_id = {"run 7", 5}};
    assert_ok(rv_lake_publish(lake, key, place("p"), &tags, published, err));
    assert_fails(
        RV_ERR_NOT_FOUND,
        rv_lake_get_entry(lake, key, &info, err)); /* publishing primes nothing */
    assert_ok(rv_lake_refresh(lake, key, place("p"), &result, err));
    assert_int_equal(result, RV_UP_TO_DATE);
    found_at(lake, key, 1, 2);
    assert_ok(rv_lake_get_entry(lake, key, &info, err));
    assert_string_equal(info.witness, published);
    assert_ok(rv_lake_refresh(lake, key, place("p"), &result, err));
    assert_int_equal(result, RV_UP_TO_DATE);
    s.generation = 2;
    assert_ok(rv_lake_publish(lake, key, place("p"), NULL, published, err));
    assert_ok(rv_lake_refresh(lake, key, place("p"), &result, err));
    assert_int_equal(result, RV_INVALIDATED);
    assert_counts(lake, 0, 1, 1, 1, 0);
    assert_ok(rv_lake_refresh(lake, key, place("p"), &result, err));
    assert_int_equal(result, RV_UP_TO_DATE);
    found_at(lake, key, 2, 2);
    /* a bundle that was tampered with changes nothing */
    FILE *file = fopen(place("p/" RV_BUNDLE_FILE), "r+b");
    fseek(file, 30, SEEK_SET);
    fputc('!', file);
    fclose(file);
    rv_error why = {0};
    assert_int_not_equal(rv_lake_refresh(lake, key, place("p"), &result, &why), RV_OK);
    assert_ok(rv_lake_get_entry(lake, key, &info, err));
    rv_lake_free(lake);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(ids_and_scores_come_back),
        IN_FOLDER(saved_after_the_source_moved_on),
        IN_FOLDER(saved_before_a_change_the_witness_does_not_tell),
        IN_FOLDER(a_snapshot_takes_the_place_of_nothing_newer),
        IN_FOLDER(files_that_do_not_belong_together),
        IN_FOLDER(bundles_that_say_something_else),
        IN_FOLDER(altered_vectors),
        IN_FOLDER(snapshots_of_version_1),
        IN_FOLDER(snapshots_of_another_process),
        IN_FOLDER(a_ready_index),
        IN_FOLDER(published_and_refreshed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
