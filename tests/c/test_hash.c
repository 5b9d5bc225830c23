/*
 * test_hash.c - the hash of tables against CPython 3.11's hash() of eight bytes, which is
 * SipHash-1-3 under a key that follows from PYTHONHASHSEED; and that keys differ.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"

static const uint64_t numbers[] = {
    0, 1, 123, UINT64_C(5) << 32, UINT64_C(0x0123456789abcdef), UINT64_MAX};

/* PYTHONHASHSEED=s python -c "hash(number.to_bytes(8, 'little')) % 2**64", s = 0 and 42
 */
static void values_of_another_implementation(void **state) {
    (void)state;
    static const struct {
        rvb_hash_key key;
        uint64_t value[6];
    } known[] = {
        {{0, 0},
         {UINT64_C(0xbd60acb658c79e45), UINT64_C(0x1e9f734161d62dd9),
          UINT64_C(0x97d2c0225b307938), UINT64_C(0x10851f800f908dc1),
          UINT64_C(0x8662046e52264db8), UINT64_C(0x2f205be2fec8e38d)}},
        {{UINT64_C(0xdc504fd368cd90af), UINT64_C(0xb920bb9ffe99e9c1)},
         {UINT64_C(0xff8022ca61836881), UINT64_C(0x4dfec0acd507c5a4),
          UINT64_C(0x07cb4db9212849b4), UINT64_C(0xd9bc0f997f760e90),
          UINT64_C(0x009f3909b890b8a2), UINT64_C(0x190c62aba242974e)}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++)
            assert_true(rvb_hash(&known[i].key, numbers[j]) == known[i].value[j]);
}

/* Bytes 0, 1, ..., n - 1: hash(bytes(range(n))) % 2**64, as above. */
static void bytes_of_another_implementation(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 7, 8, 9, 16, 63, 64};
    static const struct {
        rvb_hash_key key;
        uint64_t value[7];
    } known[] = {
        {{0, 0},
         {UINT64_C(0x68a914128e01e473), UINT64_C(0x2f098ab0c751325a),
          UINT64_C(0xead411e67ebe2eea), UINT64_C(0x75927f9d95124362),
          UINT64_C(0x8972188433a5c5b7), UINT64_C(0x385d3e39e5f37359),
          UINT64_C(0x75e05fd5bbc870c6)}},
        {{UINT64_C(0xdc504fd368cd90af), UINT64_C(0xb920bb9ffe99e9c1)},
         {UINT64_C(0xce880c366bcf3489), UINT64_C(0xce280fabc397fbda),
          UINT64_C(0x60866c3c108c6afb), UINT64_C(0x68814005f7469e03),
          UINT64_C(0x339176f3ac59ce05), UINT64_C(0x06e24d6f0d014c37),
          UINT64_C(0x91639ef7de8d52cb)}},
    };
    uint8_t bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++)
            assert_true(rvb_hash_bytes(&known[i].key, bytes, sizes[j]) ==
                        known[i].value[j]);
    uint8_t number[8] = {0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
    assert_true(rvb_hash_bytes(&known[1].key, number, 8) ==
                rvb_hash(&known[1].key, numbers[4]));
    assert_true(rvb_hash_bytes(&known[0].key, bytes, 0) !=
                rvb_hash_bytes(&known[1].key, bytes, 0));
}

static void every_table_has_another_key(void **state) {
    (void)state;
    rvb_hash_key key[64];
    for (size_t i = 0; i < 64; i++) {
        key[i] = rvb_hash_key_draw();
        for (size_t j = 0; j < i; j++) {
            assert_true(key[i].k0 != key[j].k0);
            assert_true(key[i].k1 != key[j].k1);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_another_implementation),
        cmocka_unit_test(bytes_of_another_implementation),
        cmocka_unit_test(every_table_has_another_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
