/*
 * topk.c - the k smallest keys seen. Up to SORTED_MAX they are kept as an
 * ascending array, where the worst is read for free and an insertion shifts a
 * few entries; above, a binary max-heap. The order is total: (key, id).
 */
#include "index/index_i.h"

#include <math.h>

#define SORTED_MAX 32u

rv_status rvx_topk_init(rvx_topk *t, size_t k, rv_error *err) {
    *t = (rvx_topk){.k = k};
    t->hit = rvb_alloc(k, sizeof *t->hit);
    if (!t->hit) return rvb_fail_memory(err, (uint64_t)k * sizeof *t->hit);
    rvx_topk_reset(t);
    return RV_OK;
}

void rvx_topk_clear(rvx_topk *t) {
    rvb_free(t->hit);
    *t = (rvx_topk){0};
}

void rvx_topk_reset(rvx_topk *t) {
    t->n = 0;
    t->worst = t->k ? INFINITY : -INFINITY;
}

static void insert_sorted(rvx_topk *t, rvx_hit hit) {
    size_t i = t->n < t->k ? t->n++ : t->n - 1;
    for (; i > 0 && rvx_hit_before(&hit, &t->hit[i - 1]); i--) t->hit[i] = t->hit[i - 1];
    t->hit[i] = hit;
}

/* Moves `hit` down from place i of a max-heap of n entries. */
static void sift_down(rvx_hit *heap, size_t n, size_t i, rvx_hit hit) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && rvx_hit_before(&heap[child], &heap[child + 1])) child++;
        if (!rvx_hit_before(&hit, &heap[child])) break;
        heap[i] = heap[child];
    }
    heap[i] = hit;
}

static void insert_heap(rvx_topk *t, rvx_hit hit) {
    if (t->n == t->k) {
        sift_down(t->hit, t->n, 0, hit);
        return;
    }
    size_t i = t->n++;
    for (size_t parent; i > 0; i = parent) {
        parent = (i - 1) / 2;
        if (!rvx_hit_before(&t->hit[parent], &hit)) break;
        t->hit[i] = t->hit[parent];
    }
    t->hit[i] = hit;
}

void rvx_topk_push(rvx_topk *t, rvx_hit hit) {
    bool sorted = t->k <= SORTED_MAX;
    if (t->k == 0) return;
    if (isnan(hit.key)) hit.key = INFINITY;
    if (t->n == t->k) {
        const rvx_hit *worst = &t->hit[sorted ? t->k - 1 : 0];
        if (!rvx_hit_before(&hit, worst)) return;
    }
    if (sorted)
        insert_sorted(t, hit);
    else
        insert_heap(t, hit);
    if (t->n == t->k) t->worst = t->hit[sorted ? t->k - 1 : 0].key;
}

void rvx_topk_sort(rvx_topk *t) {
    if (t->k <= SORTED_MAX) return;
    for (size_t end = t->n; end > 1; end--) {
        rvx_hit last = t->hit[end - 1];
        t->hit[end - 1] = t->hit[0];
        sift_down(t->hit, end - 1, 0, last);
    }
}
