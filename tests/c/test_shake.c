/*
 * SHAKE-256 and the tree digest. The empty and the 1600-bit message are the examples
 * NIST publishes for FIPS 202, 512 bytes of output each; all other values were
 * computed with Python's hashlib.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "failing_allocator.h"

#define MIB ((size_t)1 << 20)

static uint8_t *pattern(size_t size) {
    uint8_t *data = rvb_alloc(size, 1);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)((i * 131 + 7) % 251);
    return data;
}

static void assert_hex(const uint8_t *bytes, const char *hex) {
    char text[1025];
    size_t size = strlen(hex) / 2;
    assert_true(2 * size < sizeof text);
    for (size_t i = 0; i < size; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(text, hex);
}

static void nist_examples(void **state) {
    (void)state;
    static const char empty[] =
        "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762fd75dc4dd"
        "d8c0f200cb05019d67b592f6fc821c49479ab48640292eacb3b7c4be141e96616fb13957"
        "692cc7edd0b45ae3dc07223c8e92937bef84bc0eab862853349ec75546f58fb7c2775c38"
        "462c5010d846c185c15111e595522a6bcd16cf86f3d122109e3b1fdd943b6aec468a2d62"
        "1a7c06c6a957c62b54dafc3be87567d677231395f6147293b68ceab7a9e0c58d864e8efd"
        "e4e1b9a46cbe854713672f5caaae314ed9083dab4b099f8e300f01b8650f1f4b1d8fcf3f"
        "3cb53fb8e9eb2ea203bdc970f50ae55428a91f7f53ac266b28419c3778a15fd248d339ed"
        "e785fb7f5a1aaa96d313eacc890936c173cdcd0fab882c45755feb3aed96d477ff96390b"
        "f9a66d1368b208e21f7c10d04a3dbd4e360633e5db4b602601c14cea737db3dcf722632c"
        "c77851cbdde2aaf0a33a07b373445df490cc8fc1e4160ff118378f11f0477de055a81a9e"
        "da57a4a2cfb0c83929d310912f729ec6cfa36c6ac6a75837143045d791cc85eff5b21932"
        "f23861bcf23a52b5da67eaf7baae0f5fb1369db78f3ac45f8c4ac5671d85735cdddb09d2"
        "b1e34a1fc066ff4a162cb263d6541274ae2fcc865f618abe27c124cd8b074ccd516301b9"
        "1875824d09958f341ef274bdab0bae316339894304e35877b0c28a9b1fd166c796b9cc25"
        "8a064a8f57e27f2a";
    static const char bits_1600[] =
        "cd8a920ed141aa0407a22d59288652e9d9f1a7ee0c1e7c1ca699424da84a904d2d700caa"
        "e7396ece96604440577da4f3aa22aeb8857f961c4cd8e06f0ae6610b1048a7f64e1074cd"
        "629e85ad7566048efc4fb500b486a3309a8f26724c0ed628001a1099422468de726f1061"
        "d99eb9e93604d5aa7467d4b1bd6484582a384317d7f47d750b8f5499512bb85a226c4243"
        "556e696f6bd072c5aa2d9b69730244b56853d16970ad817e213e470618178001c9fb56c5"
        "4fefa5fee67d2da524bb3b0b61ef0e9114a92cdbb6cccb98615cfe76e3510dd88d1cc28f"
        "f99287512f24bfafa1a76877b6f37198e3a641c68a7c42d45fa7acc10dae5f3cefb7b735"
        "f12d4e589f7a456e78c0f5e4c4471fffa5e4fa0514ae974d8c2648513b5db494cea84715"
        "6d277ad0e141c24c7839064cd08851bc2e7ca109fd4e251c35bb0a04fb05b364ff8c4d8b"
        "59bc303e25328c09a882e952518e1a8ae0ff265d61c465896973d7490499dc639fb8502b"
        "39456791b1b6ec5bcc5d9ac36a6df622a070d43fed781f5f149f7b62675e7d1a4d6dec48"
        "c1c7164586eae06a51208c0b791244d307726505c3ad4b26b6822377257aa152037560a7"
        "39714a3ca79bd605547c9b78dd1f596f2d4f1791bc689a0e9b799a37339c042757337401"
        "43ef5d2b58b96a363d4e08076a1a9d7846436e4dca5728b6f760eef0ca92bf0be5615e96"
        "959d767197a0beeb";
    uint8_t message[200], out[512];
    rvb_shake256("", 0, out, sizeof out);
    assert_hex(out, empty);
    memset(message, 0xA3, sizeof message);
    rvb_shake256(message, sizeof message, out, sizeof out);
    assert_hex(out, bits_1600);
}

static const struct {
    size_t size;
    const char *digest;
} lengths[] = {
    {0, "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f"},
    {1, "b80ae24d9eb153769f5255dd09ac372349aa2571ae69543fa6a7a837532d06f2"},
    {7, "81fc780bd008306b0ed64333665a1a300dfd5e371c2bdf6231d533eb40cd609f"},
    {8, "a6246b146047b5a95346d78f1d98046b74137a05db341eed5d30e72ca2e13c70"},
    {9, "f6642e57ef55ec92abfcca3e16b5476631a80ca833db46605ad69cf904747dae"},
    {134, "0ed551afe2887949b056a7a5035c75a7580168b5773a3badcce70967d3330f5b"},
    {135, "094b70ab1db09f2acecf2b6310f11cfc26d9164685b6879e54a7d0d0bc23db1b"},
    {136, "a5f45c2be1927595d208756e917af16492797574d91df45289cf49c95da444d0"},
    {137, "ea0adc84cce4dacaabfdfa9b2ca009864dcd26d1dc7a7d8ed2f25b1522f04b3b"},
    {271, "544dc614429460e9b2903b3252003b4d90542127a51d5ba8ce3afeeffde03ae1"},
    {272, "d081f9c537fd40b7fbfd85153b78e16451d62466079de80f33ef52080440e3b2"},
    {273, "3c0fd6dcce3994df14e4bf3e068835d1099880fe5eec1c1461698189ab26abe9"},
    {408, "834c802865f7e83d96fa98a512d259d9a0d1ea6ccb68f1171bc35d1946c899dd"},
    {1000, "f044fc1aa54587b683e92e5ee5a8cfad77a481a333274313bf8462998a7199ca"},
};

static void lengths_around_the_rate(void **state) {
    (void)state;
    uint8_t out[32], *data = pattern(1000);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        rvb_shake256(data, lengths[i].size, out, sizeof out);
        assert_hex(out, lengths[i].digest);
    }
    rvb_free(data);
}

static void pieces_make_no_difference(void **state) {
    (void)state;
    uint8_t out[32], *data = pattern(1000);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (size_t piece = 1; piece <= 300; piece += piece < 10 ? 1 : 63) {
            rvb_shake s;
            rvb_shake_init(&s);
            for (size_t at = 0; at < lengths[i].size; at += piece) {
                size_t left = lengths[i].size - at;
                rvb_shake_update(&s, data + at, left < piece ? left : piece);
                rvb_shake_update(&s, NULL, 0);
            }
            rvb_shake_finish(&s);
            rvb_shake_squeeze(&s, out, sizeof out);
            assert_hex(out, lengths[i].digest);
        }
    }
    rvb_free(data);
}

static void output_may_be_drawn_in_parts(void **state) {
    (void)state;
    static const char digest[] =
        "f044fc1aa54587b683e92e5ee5a8cfad77a481a333274313bf8462998a7199ca2f2d4c1c"
        "bd2326362ad05882f833f22f409157216cd5cbf7995db736a672ae2e05c1ec3b638224fb"
        "d202649cb34956910378eb28000c1a33097905d9df2b4a9a4ffd750bbde8967ff143b22a"
        "fe7e920f9af9486dcf9071034ea0644935b67dc37d82874ea01bef78cbcc1d20f388b25b"
        "b6196b560db8d017725d7a3bcb8b00ef772f8503fbe9a80111d74bfcdbd6bcfce3e96373"
        "e20783866acd651d7d0627cbd630fd45289f10fb3b5894b319c6398d34c8af0ac434322b"
        "6fadd28c7f28d3de1113c78c5b1175fcc00518bd4840e7fb8dea5ce26b6716822ef9aab7"
        "21a0cadde2e021bb61b487c8cc82a66b51dc39dfda9b0e2eecaa567d84075eb3c95bf430"
        "847df399f2479f41ca00185d";
    uint8_t out[300], *data = pattern(1000);
    for (size_t part = 1; part <= 300; part++) {
        rvb_shake s;
        rvb_shake_init(&s);
        rvb_shake_update(&s, data, 1000);
        rvb_shake_finish(&s);
        for (size_t at = 0; at < sizeof out; at += part) {
            size_t left = sizeof out - at;
            rvb_shake_squeeze(&s, out + at, left < part ? left : part);
        }
        assert_hex(out, digest);
    }
    rvb_free(data);
}

static const struct {
    size_t size;
    const char *digest;
} trees[] = {
    {0, "06c0a1ccb371fb765c0660faec67fce8b8ac9eb9da42d3799f0c92a58496d0fe"},
    {1, "864a3ec13b92509563bd118e577283c3f71f93fa3b5ffd39959bae9f8c151766"},
    {MIB - 1, "ceb53d7388f0d22e7fd94f2419611e7ec20059f5352f3bade4dfd19a831ebe66"},
    {MIB, "1a0913468083a81660127e7bab75ef6c482df2a9e9411ce1b3815639ed5c2c18"},
    {MIB + 1, "7f8c96801c3cbbfb15d63948ed11bc17e5f13c4509dcaf498e68a44da7920bf1"},
    {3 * MIB + 5, "f61cdab026c07565a3c9c85f48c6706d8bb6a186ad39c63fb4f0fcd945c2f226"},
};

static void tree_digests(void **state) {
    (void)state;
    uint8_t out[RVB_DIGEST_BYTES], *data = pattern(3 * MIB + 5);
    assert_int_equal(rv_set_num_threads(3, NULL), RV_OK);
    rvb_pool *pool = rvb_pool_acquire();
    assert_non_null(pool);
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        for (int shared = 0; shared < 2; shared++) {
            memset(out, 0, sizeof out);
            assert_int_equal(
                rvb_tree_digest(shared ? pool : NULL, data, trees[i].size, out, NULL),
                RV_OK);
            assert_hex(out, trees[i].digest);
        }
    }
    rvb_pool_release(pool);
    rvb_free(data);
}

static void tree_digests_of_a_stream(void **state) {
    (void)state;
    static const size_t pieces[] = {1000, 65536, MIB - 1, MIB, MIB + 1, 4 * MIB};
    uint8_t out[RVB_DIGEST_BYTES], *data = pattern(3 * MIB + 5);
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            rvb_tree t;
            rvb_tree_init(&t, trees[i].size);
            for (size_t at = 0; at < trees[i].size; at += pieces[p]) {
                size_t left = trees[i].size - at;
                rvb_tree_update(&t, data + at, left < pieces[p] ? left : pieces[p]);
            }
            rvb_tree_finish(&t, out);
            assert_hex(out, trees[i].digest);
        }
    }
    rvb_free(data);
}

static void tree_digest_without_memory(void **state) {
    (void)state;
    uint8_t out[RVB_DIGEST_BYTES], *data = pattern(100);
    rv_error err;
    failing_allocator_install(1);
    assert_int_equal(rvb_tree_digest(NULL, data, 100, out, &err), RV_ERR_MEMORY);
    assert_int_equal(err.expected, 32);
    assert_int_equal(failing_allocator_live(), 0);
    failing_allocator_remove();
    rvb_free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nist_examples),
        cmocka_unit_test(lengths_around_the_rate),
        cmocka_unit_test(pieces_make_no_difference),
        cmocka_unit_test(output_may_be_drawn_in_parts),
        cmocka_unit_test(tree_digests),
        cmocka_unit_test(tree_digests_of_a_stream),
        cmocka_unit_test(tree_digest_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
