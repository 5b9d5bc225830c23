/*
 * test_cache.c - which entries there are, who points at them, what goes and what is
 * counted.
 */
#include "lake_cases.h"

#include "lake/lake_i.h"

/* The reference's own order of events and what it counts at each. */
static void counts_of_a_session(void **state) {
    (void)state;
    source s = {.id = "a", .data_ref = "x://a", .rows = 5, .generation = 1};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    float query[LAKE_DIM] = {0};
    uint64_t ids[7];
    float scores[7];
    found_at(lake, docs_of(&s), 1, 2);
    assert_counts(lake, 0, 1, 1, 0, 0);
    found_at(lake, docs_of(&s), 1, 2);
    assert_counts(lake, 1, 1, 1, 0, 0);
    s.generation = 2;
    found_at(lake, docs_of(&s), 2, 4);
    assert_counts(lake, 1, 2, 2, 1, 0);
    rv_lake_invalidate(lake, docs_of(&s));
    assert_counts(lake, 1, 2, 2, 2, 0);
    rv_lake_invalidate(lake, docs_of(&s));
    assert_counts(lake, 1, 2, 2, 2, 0);
    assert_fails(RV_ERR_DIM,
                 rv_lake_search(lake, docs_of(&s), &(rv_queries){query, 1, LAKE_DIM - 1},
                                1, &(rv_result){ids, scores}, err));
    assert_counts(lake, 1, 3, 3, 2, 0);
    assert_fails(RV_ERR_NOT_FOUND, rv_lake_search(lake, (rv_key){"a", "none"},
                                                  &(rv_queries){query, 1, LAKE_DIM}, 1,
                                                  &(rv_result){ids, scores}, err));
    assert_counts(lake, 1, 3, 3, 2, 0);
    float seven[7 * LAKE_DIM] = {0};
    assert_ok(rv_lake_search(lake, docs_of(&s), &(rv_queries){seven, 7, LAKE_DIM}, 1,
                             &(rv_result){ids, scores}, err));
    assert_counts(lake, 2, 3, 3, 2, 0);

    rv_lake_stats of_key = RV_LAKE_STATS_DEFAULT, of_backend = RV_LAKE_STATS_DEFAULT,
                  none = RV_LAKE_STATS_DEFAULT;
    assert_ok(rv_lake_get_key_stats(lake, docs_of(&s), &of_key, err));
    assert_ok(rv_lake_get_key_stats(lake, (rv_key){"a", NULL}, &of_backend, err));
    assert_fails(RV_ERR_NOT_FOUND,
                 rv_lake_get_key_stats(lake, (rv_key){"a", "none"}, &none, err));
    assert_fails(RV_ERR_NOT_FOUND,
                 rv_lake_get_key_stats(lake, (rv_key){"b", NULL}, &none, err));
    assert_int_equal(of_key.primes, 3);
    assert_int_equal(of_backend.misses, 3);
    rv_lake_free(lake);
    assert_true(s.released);
}

static void one_state_one_entry(void **state) {
    (void)state;
    source a = {.id = "a", .data_ref = "x://same", .rows = 5, .generation = 1};
    source b = {.id = "b", .data_ref = "x://same", .rows = 5, .generation = 1};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &a);
    add_source(lake, &b);
    found_at(lake, docs_of(&a), 1, 3);
    found_at(lake, docs_of(&b), 1, 3);
    assert_counts(lake, 0, 2, 1, 0, 1);
    assert_int_equal(b.pulls, 0); /* not needed, so not made */
    assert_int_equal(rv_lake_entry_count(lake), 1);
    rv_entry_info of_a = RV_ENTRY_INFO_DEFAULT, of_b = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_lake_get_entry(lake, docs_of(&a), &of_a, err));
    assert_ok(rv_lake_get_entry(lake, docs_of(&b), &of_b, err));
    assert_string_equal(of_a.witness, of_b.witness);
    assert_int_equal(of_a.keys, 2);
    assert_int_equal(of_a.holds, 0);
    assert_int_equal(rv_lake_refcount(lake, of_a.witness), 2);
    assert_int_equal(rv_lake_refcount(lake, "none"), 0);
    /* one moves on, the other's entry stays */
    a.generation = 2;
    found_at(lake, docs_of(&a), 2, 3);
    assert_counts(lake, 0, 3, 2, 0, 1);
    assert_int_equal(rv_lake_refcount(lake, of_b.witness), 1);
    b.generation = 2;
    found_at(lake, docs_of(&b), 2, 3);
    assert_counts(lake, 0, 4, 2, 1, 2);
    assert_int_equal(rv_lake_entry_count(lake), 1);
    rv_lake_free(lake);
}

static void prime(rv_lake *lake, source *s) {
    rv_witness witness;
    assert_ok(rv_lake_prime(lake, docs_of(s), NULL, witness, err));
}

static bool cached(const rv_lake *lake, const source *s) {
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    return rv_lake_get_entry(lake, docs_of(s), &info, NULL) == RV_OK;
}

static void the_longest_unused_goes(void **state) {
    (void)state;
    source s[4] = {{.id = "a", .rows = 3},
                   {.id = "b", .rows = 3},
                   {.id = "c", .rows = 3},
                   {.id = "d", .rows = 3}};
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.max_cache_entries = 2;
    rv_lake *lake = new_lake(&o);
    for (int i = 0; i < 4; i++) add_source(lake, &s[i]);
    prime(lake, &s[0]);
    prime(lake, &s[1]);
    found_at(lake, docs_of(&s[0]), 0, 1);
    prime(lake, &s[2]);
    assert_true(cached(lake, &s[0]) && !cached(lake, &s[1]) && cached(lake, &s[2]));
    rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
    assert_ok(rv_lake_get_stats(lake, &stats, err));
    assert_int_equal(stats.evictions, 1);
    assert_int_equal(stats.invalidations, 1);
    assert_ok(rv_lake_get_key_stats(lake, docs_of(&s[1]), &stats, err));
    assert_int_equal(stats.invalidations, 0);

    /* what is held stays, beyond the cap if need be, and goes when it may */
    rv_pin *pins[4];
    for (int i = 0; i < 4; i++)
        assert_ok(rv_lake_acquire(lake, docs_of(&s[i]), NULL, &pins[i], err));
    assert_int_equal(rv_lake_entry_count(lake), 4);
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_pin_info(pins[0], &info, err));
    assert_int_equal(info.holds, 1);
    rv_pin_release(pins[3]);
    assert_int_equal(rv_lake_entry_count(lake), 3);
    assert_false(cached(lake, &s[3]));
    for (int i = 0; i < 3; i++) rv_pin_release(pins[i]);
    assert_int_equal(rv_lake_entry_count(lake), 2);
    rv_lake_free(lake);
}

/* A search under way keeps its entry and its answer. */
static void held_entries_do_not_change(void **state) {
    (void)state;
    source s = {.id = "a", .data_ref = "x://a", .rows = 3, .generation = 1};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_pin *pin;
    assert_ok(rv_lake_acquire(lake, docs_of(&s), NULL, &pin, err));
    s.generation = 2;
    found_at(lake, docs_of(&s), 2, 1);
    rv_lake_invalidate(lake, docs_of(&s));
    float query[LAKE_DIM] = {1, 2}, score;
    uint64_t id;
    assert_ok(rv_pin_search(pin, &(rv_queries){query, 1, LAKE_DIM}, 1, 0, NULL,
                            &(rv_result){&id, &score}, err));
    assert_true(id == 2 && score == 0);
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_pin_info(pin, &info, err));
    assert_int_equal(info.keys, 0);
    assert_int_equal(info.holds, 1);
    rv_pin_release(pin);
    rv_lake_free(lake);
}

/* The same witness, other bytes: rebuilt in place, for all keys that point there. */
static void a_finer_token_replaces_an_entry(void **state) {
    (void)state;
    source a = {.id = "a", .data_ref = "x://same", .rows = 3, .has_token = true};
    source b = a;
    b.id = "b";
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &a);
    add_source(lake, &b);
    found_at(lake, docs_of(&a), 0, 1);
    found_at(lake, docs_of(&b), 0, 1);
    assert_counts(lake, 0, 2, 1, 0, 1);
    a.rows = b.rows = 4;
    a.token = b.token = 1;
    found_at(lake, docs_of(&a), 0, 3);
    assert_counts(lake, 0, 3, 2, 1, 1);
    found_at(lake, docs_of(&b), 0, 3);
    assert_counts(lake, 1, 3, 2, 1, 1);
    assert_int_equal(rv_lake_entry_count(lake), 1);
    assert_int_equal(b.pulls, 0);
    /* a third key with news of the bytes does not share the old ones either */
    source c = a;
    c.id = "c";
    c.rows = 5;
    c.token = 2;
    c.pulls = 0;
    add_source(lake, &c);
    found_at(lake, docs_of(&c), 0, 4);
    assert_int_equal(c.pulls, 1);
    rv_lake_free(lake);
}

static void keys_in_the_order_they_came(void **state) {
    (void)state;
    source s = {.id = "a", .rows = 3};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    found_at(lake, (rv_key){"a", "docs"}, 0, 1);
    found_at(lake, (rv_key){NULL, "a"}, 0, 1);
    rv_key keys[3];
    assert_int_equal(rv_lake_keys(lake, keys, 1), 2);
    assert_string_equal(keys[0].collection, "docs");
    assert_int_equal(rv_lake_keys(lake, keys, 3), 2);
    assert_string_equal(keys[1].backend, "a");
    assert_string_equal(keys[1].collection, "a");
    rv_lake_free(lake);
}

static void many_keys_share_no_bucket(void **state) {
    (void)state;
    enum { N = 40000 };
    rv_lake *lake = new_lake(NULL);
    rvl_key *key, *again;
    char name[32];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "collection-%d", i);
        assert_ok(rvl_key_of(lake, i % 2 ? "a" : NULL, name, &key, err));
        assert_ok(rvl_key_of(lake, i % 2 ? "a" : NULL, name, &again, err));
        assert_ptr_equal(key, again);
    }
    size_t n = 0;
    for (key = lake->first_key; key; key = key->next, n++) {
        assert_ptr_equal(rvl_find_key(lake, key->backend, key->collection), key);
        assert_ptr_equal(rvl_next_holder(lake, NULL, key->collection),
                         key->backend ? key : NULL);
    }
    assert_int_equal(n, N);
    assert_true(passed_in(&lake->keys) < N);
    assert_true(passed_in(&lake->holders) < N / 2);
    rv_lake_free(lake);
}

/* FNV-1a of 64 bits of both names and what ends them: public, and so is which names meet
 * in one bucket by it. */
static uint64_t fnv_1a(const char *backend, const char *collection) {
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (int i = 0; i < 2; i++) {
        for (const char *at = i ? collection : backend; *at; at++)
            h = (h ^ (uint8_t)*at) * UINT64_C(0x100000001B3);
        h = (h ^ 0xFF) * UINT64_C(0x100000001B3);
    }
    return h ^ h >> 32;
}

static void no_name_knows_its_bucket(void **state) {
    (void)state;
    enum { N = 512 };
    rv_lake *lake = new_lake(NULL), *other = new_lake(NULL);
    size_t in_the_same = 0;
    for (int i = 0, n = 0; n < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d", i);
        if (fnv_1a("a", name) % N) continue;
        n++;
        rvl_key *key, *there;
        assert_ok(rvl_key_of(lake, "a", name, &key, err));
        assert_ok(rvl_key_of(other, "a", name, &there, err));
        in_the_same += (key->by_name.hash ^ there->by_name.hash) % N == 0;
    }
    assert_true(passed_in(&lake->keys) < N);
    assert_true(passed_in(&other->keys) < N);
    assert_true(in_the_same < 20); /* one is expected: each lake has a key of its own */
    rv_lake_free(other);
    rv_lake_free(lake);
}

static rv_index *small_index(void) {
    rv_build_options o = RV_BUILD_DEFAULT;
    o.kind = RV_PLUS;
    o.dim = LAKE_DIM;
    float row[LAKE_DIM] = {1};
    rv_index *index;
    assert_ok(rv_index_build(&o, &(rv_rows){row, NULL, 1, o.dim}, &index, err));
    return index;
}

static rv_key key_number(char name[32], int i) {
    snprintf(name, 32, "collection-%d", i);
    return (rv_key){"own", name};
}

static void install_many(rv_lake *lake, rv_index *index, int n) {
    char name[32];
    for (int i = 0; i < n; i++)
        assert_ok(rv_lake_install(lake, key_number(name, i), index, NULL, err));
}

static void many_witnesses_share_no_bucket(void **state) {
    (void)state;
    enum { N = 2000 };
    rv_lake *lake = new_lake(NULL);
    rv_index *index = small_index();
    install_many(lake, index, N);
    assert_int_equal(lake->entries.n, N);
    assert_true(passed_in(&lake->entries) < N);
    char name[32];
    for (int i = 0; i < N; i++) {
        rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
        assert_ok(rv_lake_get_entry(lake, key_number(name, i), &info, err));
        assert_int_equal(rv_lake_refcount(lake, info.witness), 1);
        rv_lake_invalidate(lake, key_number(name, i));
        assert_int_equal(rv_lake_refcount(lake, info.witness), 0);
    }
    assert_int_equal(lake->entries.n, 0);
    rv_index_free(index);
    rv_lake_free(lake);
}

/* The first in line goes: nothing has to be looked for, however many there are and
 * however many of them are held. */
static void what_goes_is_first_in_line(void **state) {
    (void)state;
    enum { N = 500, HELD = 400 };
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.max_cache_entries = N;
    o.consistency = RV_STALE;
    rv_lake *lake = new_lake(&o);
    rv_index *index = small_index();
    install_many(lake, index, N);
    rv_pin *pin[N];
    char name[32];
    for (int i = 0; i < N; i++)
        assert_ok(rv_lake_acquire(lake, key_number(name, i), NULL, &pin[i], err));
    assert_null(lake->idle_most);
    for (int i = N - 1; i >= HELD; i--) rv_pin_release(pin[i]);
    int expected = N - 1, idle = 0;
    for (const rvl_entry *e = lake->idle_most; e; e = e->idle_less, idle++, expected--)
        assert_ptr_equal(e, pin[expected]);
    assert_int_equal(idle, N - HELD);
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    for (int i = N; i < N + 10; i++) {
        assert_ok(rv_lake_get_entry(lake, key_number(name, 2 * N - 1 - i), &info, err));
        assert_ok(rv_lake_install(lake, key_number(name, i), index, NULL, err));
        assert_fails(
            RV_ERR_NOT_FOUND,
            rv_lake_get_entry(lake, key_number(name, 2 * N - 1 - i), &info, err));
        assert_int_equal(lake->n_entries, N);
    }
    for (int i = 0; i < HELD; i++) rv_pin_release(pin[i]);
    for (int i = 0; i < HELD; i++)
        assert_ok(rv_lake_get_entry(lake, key_number(name, i), &info, err));
    rv_index_free(index);
    rv_lake_free(lake);
}

/* An entry knows its keys: others are not asked when it goes. */
static void an_entry_knows_its_keys(void **state) {
    (void)state;
    source s[3] = {{.id = "a", .data_ref = "x://same", .rows = 3},
                   {.id = "b", .data_ref = "x://same", .rows = 3},
                   {.id = "c", .data_ref = "x://same", .rows = 3}};
    rv_lake *lake = new_lake(NULL);
    for (int i = 0; i < 3; i++) {
        add_source(lake, &s[i]);
        prime(lake, &s[i]);
    }
    const rvl_key *c = lake->newest->first_key, *b = c->next_of_entry;
    assert_string_equal(c->backend, "c");
    assert_string_equal(b->backend, "b");
    rv_lake_invalidate(lake, docs_of(&s[1]));
    assert_ptr_equal(c->next_of_entry, lake->first_key);
    assert_ptr_equal(lake->first_key->previous_of_entry, c);
    assert_null(lake->first_key->next_of_entry);
    assert_int_equal(lake->newest->keys, 2);
    rv_lake_free(lake);
}

static void many_backends_share_no_bucket(void **state) {
    (void)state;
    enum { N = 1000 };
    rv_lake *lake = new_lake(NULL);
    char id[32];
    rvl_key *meant, *again;
    for (int i = 0; i < N; i++) {
        rv_backend *backend;
        snprintf(id, sizeof id, "backend-%d", i);
        assert_ok(rv_local_backend_new(id, &backend, err));
        assert_ok(rv_lake_register(lake, backend, err));
        assert_fails(RV_ERR_DUPLICATE, rv_lake_register(lake, backend, err));
        assert_ptr_equal(rvl_backend(lake, id), backend);
        assert_ptr_equal(rv_lake_backend(lake, (size_t)i), backend);
        rv_backend_free(backend);
        /* what a collection means is found out anew once there is one backend more */
        if (i > 1) continue;
        assert_int_equal(rvl_resolve(lake, (rv_key){NULL, "x"}, &meant, NULL),
                         i ? RV_ERR_NOT_FOUND : RV_OK);
        assert_int_equal(rvl_resolve(lake, (rv_key){NULL, "x"}, &again, NULL),
                         i ? RV_ERR_NOT_FOUND : RV_OK);
    }
    assert_true(passed_in(&lake->backends_by_id) < N);
    rv_lake_free(lake);
}

/* Every entry is met once, each right behind the one before; looking is no use. */
static void looking_at_all_entries(void **state) {
    (void)state;
    enum { N = 300 };
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.max_cache_entries = N;
    rv_lake *lake = new_lake(&o);
    rv_index *index = small_index();
    install_many(lake, index, N);
    const rvl_entry *first = lake->idle_most;
    rvl_entry *entry = rvl_entry_look(lake, NULL);
    int n = 0;
    for (; entry; n++) {
        const rvl_entry *next = entry->next;
        rvl_entry *older = rvl_entry_look(lake, entry);
        assert_ptr_equal(older, next);
        rvl_entry_unlook(entry);
        entry = older;
    }
    assert_int_equal(n, N);
    assert_ptr_equal(lake->idle_most, first);
    /* behind one that is gone come those that are older than it */
    entry = rvl_entry_look(lake, NULL);
    const rvl_entry *second = entry->next;
    char name[32];
    rv_lake_invalidate(lake, key_number(name, N - 1));
    rvl_entry *older = rvl_entry_look(lake, entry);
    assert_ptr_equal(older, second);
    rvl_entry_unlook(older);
    rvl_entry_unlook(entry);
    rv_index_free(index);
    rv_lake_free(lake);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_of_a_session),
        cmocka_unit_test(one_state_one_entry),
        cmocka_unit_test(the_longest_unused_goes),
        cmocka_unit_test(held_entries_do_not_change),
        cmocka_unit_test(a_finer_token_replaces_an_entry),
        cmocka_unit_test(keys_in_the_order_they_came),
        cmocka_unit_test(many_keys_share_no_bucket),
        cmocka_unit_test(no_name_knows_its_bucket),
        cmocka_unit_test(many_witnesses_share_no_bucket),
        cmocka_unit_test(what_goes_is_first_in_line),
        cmocka_unit_test(an_entry_knows_its_keys),
        cmocka_unit_test(many_backends_share_no_bucket),
        cmocka_unit_test(looking_at_all_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
