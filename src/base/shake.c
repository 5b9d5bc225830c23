/*
 * shake.c - SHAKE-256 (FIPS 202) and the tree digest built on it.
 *
 * The state is 25 lanes of 64 bits, lane x + 5y at row y, column x. A sponge of
 * capacity 512 bits leaves a rate of 136 bytes, of which rvb_shake.at counts those
 * absorbed, later those squeezed, since the last permutation.
 */
#include "base/base.h"

#include <assert.h>

#define RATE 136u

static const uint64_t round_constants[24] = {
    UINT64_C(0x0000000000000001), UINT64_C(0x0000000000008082),
    UINT64_C(0x800000000000808A), UINT64_C(0x8000000080008000),
    UINT64_C(0x000000000000808B), UINT64_C(0x0000000080000001),
    UINT64_C(0x8000000080008081), UINT64_C(0x8000000000008009),
    UINT64_C(0x000000000000008A), UINT64_C(0x0000000000000088),
    UINT64_C(0x0000000080008009), UINT64_C(0x000000008000000A),
    UINT64_C(0x000000008000808B), UINT64_C(0x800000000000008B),
    UINT64_C(0x8000000000008089), UINT64_C(0x8000000000008003),
    UINT64_C(0x8000000000008002), UINT64_C(0x8000000000000080),
    UINT64_C(0x000000000000800A), UINT64_C(0x800000008000000A),
    UINT64_C(0x8000000080008081), UINT64_C(0x8000000000008080),
    UINT64_C(0x0000000080000001), UINT64_C(0x8000000080008008),
};

#define ROTATE(v, r) ((v) << (r) | (v) >> (64 - (r)))
/* Theta's addition and rho's rotation for the lane that pi moves to this place. */
#define LANE(a, i, r) ROTATE(a[i] ^ d[(i) % 5], r)
/* Chi on one row whose five lanes are in b0..b4. */
#define CHI(e, y)                                                                        \
    e[5 * (y) + 0] = b0 ^ (~b1 & b2);                                                    \
    e[5 * (y) + 1] = b1 ^ (~b2 & b3);                                                    \
    e[5 * (y) + 2] = b2 ^ (~b3 & b4);                                                    \
    e[5 * (y) + 3] = b3 ^ (~b4 & b0);                                                    \
    e[5 * (y) + 4] = b4 ^ (~b0 & b1)
#define ROW(a, e, y, i0, r0, i1, r1, i2, r2, i3, r3, i4, r4)                             \
    b0 = LANE(a, i0, r0);                                                                \
    b1 = LANE(a, i1, r1);                                                                \
    b2 = LANE(a, i2, r2);                                                                \
    b3 = LANE(a, i3, r3);                                                                \
    b4 = LANE(a, i4, r4);                                                                \
    CHI(e, y)
#define COLUMN(a, x) (a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20])

/* One round from a to e. Every index is a constant, so the lanes live in registers
 * and two rounds a loop save the copy back. */
#define ROUND(a, e, constant)                                                            \
    do {                                                                                 \
        uint64_t b0 = COLUMN(a, 0), b1 = COLUMN(a, 1), b2 = COLUMN(a, 2);                \
        uint64_t b3 = COLUMN(a, 3), b4 = COLUMN(a, 4);                                   \
        const uint64_t d[5] = {b4 ^ ROTATE(b1, 1), b0 ^ ROTATE(b2, 1),                   \
                               b1 ^ ROTATE(b3, 1), b2 ^ ROTATE(b4, 1),                   \
                               b3 ^ ROTATE(b0, 1)};                                      \
        b0 = a[0] ^ d[0];                                                                \
        b1 = LANE(a, 6, 44);                                                             \
        b2 = LANE(a, 12, 43);                                                            \
        b3 = LANE(a, 18, 21);                                                            \
        b4 = LANE(a, 24, 14);                                                            \
        CHI(e, 0);                                                                       \
        e[0] ^= (constant);                                                              \
        ROW(a, e, 1, 3, 28, 9, 20, 10, 3, 16, 45, 22, 61);                               \
        ROW(a, e, 2, 1, 1, 7, 6, 13, 25, 19, 8, 20, 18);                                 \
        ROW(a, e, 3, 4, 27, 5, 36, 11, 10, 17, 15, 23, 56);                              \
        ROW(a, e, 4, 2, 62, 8, 55, 14, 39, 15, 41, 21, 2);                               \
    } while (0)

static void permute(uint64_t state[25]) {
    uint64_t a[25], e[25];
    memcpy(a, state, sizeof a);
    for (int i = 0; i < 24; i += 2) {
        ROUND(a, e, round_constants[i]);
        ROUND(e, a, round_constants[i + 1]);
    }
    memcpy(state, a, sizeof a);
}

static void absorb_byte(rvb_shake *s, unsigned at, uint8_t byte) {
    s->state[at / 8] ^= (uint64_t)byte << (8 * (at % 8));
}

void rvb_shake_init(rvb_shake *s) { memset(s, 0, sizeof *s); }

void rvb_shake_update(rvb_shake *s, const void *data, size_t size) {
    const uint8_t *p = data;
    while (size > 0) {
        if (s->at == 0 && size >= RATE) {
            for (unsigned i = 0; i < RATE / 8; i++) s->state[i] ^= rvb_get_u64(p + 8 * i);
            p += RATE;
            size -= RATE;
            permute(s->state);
            continue;
        }
        absorb_byte(s, s->at++, *p++);
        size--;
        if (s->at == RATE) {
            permute(s->state);
            s->at = 0;
        }
    }
}

void rvb_shake_finish(rvb_shake *s) {
    absorb_byte(s, s->at,
                0x1F); /* the suffix 1111 of SHAKE, then the padding's first 1 */
    absorb_byte(s, RATE - 1, 0x80);
    permute(s->state);
    s->at = 0;
}

void rvb_shake_squeeze(rvb_shake *s, void *out, size_t size) {
    uint8_t *p = out;
    for (size_t i = 0; i < size; i++) {
        if (s->at == RATE) {
            permute(s->state);
            s->at = 0;
        }
        p[i] = (uint8_t)(s->state[s->at / 8] >> (8 * (s->at % 8)));
        s->at++;
    }
}

void rvb_shake256(const void *data, size_t size, void *out, size_t out_size) {
    rvb_shake s;
    rvb_shake_init(&s);
    rvb_shake_update(&s, data, size);
    rvb_shake_finish(&s);
    rvb_shake_squeeze(&s, out, out_size);
}

/* ---- tree digest ---------------------------------------------------------- */

static void root_init(rvb_shake *root, uint64_t total_size) {
    uint8_t size[8];
    rvb_put_u64(size, total_size);
    rvb_shake_init(root);
    rvb_shake_update(root, "ruvector-tree-1", 15);
    rvb_shake_update(root, size, sizeof size);
}

typedef struct leaves {
    const rvb_bytes *from;
    size_t size;
    uint8_t *digests;
} leaves;

/* A leaf of a mapped file is copied first, for to touch a file that was cut is fatal. */
static rv_status digest_leaf(const rvb_bytes *from, size_t at, size_t size, uint8_t *out,
                             rv_error *err) {
    uint8_t *copy = from->mapped ? rvb_alloc(size, 1) : NULL;
    if (from->mapped && !copy) return rvb_fail_memory(err, size);
    rv_status status = copy ? rvb_file_read(from, at, copy, size, err) : RV_OK;
    if (status == RV_OK)
        rvb_shake256(copy ? copy : from->data + at, size, out, RVB_DIGEST_BYTES);
    rvb_free(copy);
    return status;
}

static rv_status digest_leaves(void *ctx, unsigned worker, size_t begin, size_t end,
                               rv_error *err) {
    (void)worker;
    const leaves *l = ctx;
    for (size_t i = begin; i < end; i++) {
        size_t at = i * RVB_DIGEST_LEAF;
        size_t left = l->size - at;
        RVB_TRY(digest_leaf(l->from, at, left < RVB_DIGEST_LEAF ? left : RVB_DIGEST_LEAF,
                            l->digests + i * RVB_DIGEST_BYTES, err));
    }
    return RV_OK;
}

rv_status rvb_tree_digest(rvb_pool *pool, const void *data, size_t size,
                          uint8_t out[RVB_DIGEST_BYTES], rv_error *err) {
    rvb_bytes from = {.data = data, .size = size};
    return rvb_file_digest(pool, &from, size, out, err);
}

rv_status rvb_file_digest(rvb_pool *pool, const rvb_bytes *from, size_t size,
                          uint8_t out[RVB_DIGEST_BYTES], rv_error *err) {
    size_t n = size / RVB_DIGEST_LEAF + (size % RVB_DIGEST_LEAF != 0);
    leaves l = {from, size, rvb_alloc(n, RVB_DIGEST_BYTES)};
    if (!l.digests) return rvb_fail_memory(err, (uint64_t)n * RVB_DIGEST_BYTES);
    rv_status status = rvb_pool_for(pool, n, 1, digest_leaves, &l, NULL, err);
    if (status == RV_OK) {
        rvb_shake root;
        root_init(&root, size);
        rvb_shake_update(&root, l.digests, n * RVB_DIGEST_BYTES);
        rvb_shake_finish(&root);
        rvb_shake_squeeze(&root, out, RVB_DIGEST_BYTES);
    }
    rvb_free(l.digests);
    return status;
}

void rvb_tree_init(rvb_tree *t, uint64_t total_size) {
    root_init(&t->root, total_size);
    rvb_shake_init(&t->leaf);
    t->left = total_size;
    t->leaf_fill = 0;
}

static void end_leaf(rvb_tree *t) {
    uint8_t digest[RVB_DIGEST_BYTES];
    rvb_shake_finish(&t->leaf);
    rvb_shake_squeeze(&t->leaf, digest, sizeof digest);
    rvb_shake_update(&t->root, digest, sizeof digest);
    rvb_shake_init(&t->leaf);
    t->leaf_fill = 0;
}

void rvb_tree_update(rvb_tree *t, const void *data, size_t size) {
    const uint8_t *p = data;
    assert(size <= t->left);
    t->left -= size;
    while (size > 0) {
        size_t room = RVB_DIGEST_LEAF - t->leaf_fill;
        size_t part = size < room ? size : room;
        rvb_shake_update(&t->leaf, p, part);
        t->leaf_fill += part;
        p += part;
        size -= part;
        if (t->leaf_fill == RVB_DIGEST_LEAF) end_leaf(t);
    }
}

void rvb_tree_finish(rvb_tree *t, uint8_t out[RVB_DIGEST_BYTES]) {
    assert(t->left == 0);
    if (t->leaf_fill > 0) end_leaf(t);
    rvb_shake_finish(&t->root);
    rvb_shake_squeeze(&t->root, out, RVB_DIGEST_BYTES);
}
