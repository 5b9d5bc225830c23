/*
 * test_select.c - which table is in use: best by default, the one the environment names
 * if it can run, the one set by hand.
 */
#define _POSIX_C_SOURCE 200112L /* setenv, pthread */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/kernel.h"

static void wish(const char *isa) { /* "" = none */
#ifdef _WIN32
    _putenv_s("RUVECTOR_ISA", isa);
#else
    setenv("RUVECTOR_ISA", isa, 1);
#endif
}

static int start_afresh(void **state) {
    (void)state;
    wish("");
    rvk_ops_set(NULL);
    return 0;
}

static size_t count(void) {
    size_t n = 0;
    while (rvk_ops_at(n) != NULL) n++;
    return n;
}

static void scalar_is_always_last(void **state) {
    (void)state;
    assert_true(count() >= 1);
    assert_string_equal(rvk_ops_at(count() - 1)->name, "scalar");
    assert_null(rvk_ops_at(count()));
    assert_null(rvk_ops_at(SIZE_MAX));
}

static void tables_are_complete_and_named_once(void **state) {
    (void)state;
    for (size_t i = 0; i < count(); i++) {
        const rvk_ops *ops = rvk_ops_at(i);
        assert_ptr_equal(rvk_ops_find(ops->name), ops);
        assert_true(ops->group == 4 || ops->group == 6);
        assert_true(ops->dot && ops->l2sq && ops->dot_tile && ops->l2sq_tile);
        assert_true(ops->rotate && ops->encode && ops->code_dot && ops->scan);
    }
    assert_null(rvk_ops_find("abacus"));
    assert_null(rvk_ops_find(""));
}

static void the_order_is_best_first(void **state) {
    (void)state;
    static const char *const order[] = {"avx512vbmi", "avx512", "avx2", "neon", "scalar"};
    size_t at = 0;
    for (size_t i = 0; i < count(); i++) {
        while (at < 5 && strcmp(order[at], rvk_ops_at(i)->name) != 0) at++;
        assert_true(at < 5);
    }
}

#if defined(__aarch64__) && defined(RVK_HAVE_NEON)
static void neon_is_the_baseline(void **state) {
    (void)state;
    assert_string_equal(rvk_ops_at(0)->name, "neon");
}
#endif

static void the_best_is_the_default(void **state) {
    (void)state;
    assert_ptr_equal(rvk_ops_active(), rvk_ops_at(0));
}

static void the_environment_chooses(void **state) {
    (void)state;
    for (size_t i = 0; i < count(); i++) {
        wish(rvk_ops_at(i)->name);
        rvk_ops_set(NULL);
        assert_ptr_equal(rvk_ops_active(), rvk_ops_at(i));
    }
}

static void unknown_names_are_ignored(void **state) {
    (void)state;
    static const char *const names[] = {"", "abacus", "SCALAR", "scalar "};
    for (size_t i = 0; i < 4; i++) {
        wish(names[i]);
        rvk_ops_set(NULL);
        assert_ptr_equal(rvk_ops_active(), rvk_ops_at(0));
    }
}

static void the_choice_is_made_once(void **state) {
    (void)state;
    const rvk_ops *first = rvk_ops_active();
    wish(rvk_ops_at(count() - 1)->name);
    assert_ptr_equal(rvk_ops_active(), first);
}

static void a_table_can_be_set(void **state) {
    (void)state;
    for (size_t i = 0; i < count(); i++) {
        rvk_ops_set(rvk_ops_at(i));
        assert_ptr_equal(rvk_ops_active(), rvk_ops_at(i));
    }
    rvk_ops_set(NULL);
    assert_ptr_equal(rvk_ops_active(), rvk_ops_at(0));
}

static void *ask(void *unused) {
    (void)unused;
    return (void *)(uintptr_t)rvk_ops_active();
}

static void threads_get_the_same_table(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        rvk_ops_set(NULL);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, ask, NULL), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            void *got;
            assert_int_equal(pthread_join(threads[i], &got), 0);
            assert_ptr_equal(got, rvk_ops_at(0));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(scalar_is_always_last, start_afresh),
        cmocka_unit_test_setup(tables_are_complete_and_named_once, start_afresh),
        cmocka_unit_test_setup(the_order_is_best_first, start_afresh),
#if defined(__aarch64__) && defined(RVK_HAVE_NEON)
        cmocka_unit_test_setup(neon_is_the_baseline, start_afresh),
#endif
        cmocka_unit_test_setup(the_best_is_the_default, start_afresh),
        cmocka_unit_test_setup(the_environment_chooses, start_afresh),
        cmocka_unit_test_setup(unknown_names_are_ignored, start_afresh),
        cmocka_unit_test_setup(the_choice_is_made_once, start_afresh),
        cmocka_unit_test_setup(a_table_can_be_set, start_afresh),
        cmocka_unit_test_setup(threads_get_the_same_table, start_afresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
