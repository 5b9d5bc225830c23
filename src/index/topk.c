/*
 * topk.c - the smallest keys of many. The order is total: (key, id).
 *
 *   rvx_topk       the k smallest seen. Up to SORTED_MAX they are an ascending array,
 *                  where the worst is read for free and an insertion shifts a few
 *                  entries; above, a binary max-heap.
 *   rvx_hits_*     an array of hits sorted, divided at a key, or cut to the m smallest.
 *   rvx_shortlist  the k smallest, gathered with as many more, 32 at least, and cut
 *                  together.
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

/* A max-heap of n entries into ascending order. */
static void unheap(rvx_hit *heap, size_t n) {
    for (size_t end = n; end > 1; end--) {
        rvx_hit last = heap[end - 1];
        heap[end - 1] = heap[0];
        sift_down(heap, end - 1, 0, last);
    }
}

void rvx_topk_sort(rvx_topk *t) {
    if (t->k > SORTED_MAX) unheap(t->hit, t->n);
}

void rvx_hits_sort(rvx_hit *hits, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift_down(hits, n, i, hits[i]);
    unheap(hits, n);
}

/* ---- selection ------------------------------------------------------------------- */

/* A key that some more than m of n hits are not above, guessed from a sample (Floyd &
 * Rivest 1975): dividing at it leaves little to divide. */
#define SAMPLE 32u
static float pivot_for(const rvx_hit *hits, size_t n, size_t m) {
    float best[SAMPLE];
    size_t rank = m * SAMPLE / n + 2, stride = n / SAMPLE, kept = 0;
    if (rank > SAMPLE) rank = SAMPLE;
    for (size_t i = 0; i < SAMPLE; i++) {
        float key = hits[i * stride + stride / 2].key;
        if (kept == rank && !(key < best[rank - 1])) continue;
        size_t at = kept < rank ? kept++ : rank - 1;
        for (; at > 0 && key < best[at - 1]; at--) best[at] = best[at - 1];
        best[at] = key;
    }
    return best[rank - 1];
}

static float median(float a, float b, float c) {
    float low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Without a branch on how a comparison ends, which no processor could guess, and in
 * copies as wide as those that may read them right after. */
size_t rvx_hits_partition(rvx_hit *hits, size_t n, float key) {
    size_t below = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t a[2], b[2];
        float own = hits[i].key;
        memcpy(a, &hits[i], sizeof a);
        memcpy(b, &hits[below], sizeof b);
        memcpy(&hits[i], b, sizeof b);
        memcpy(&hits[below], a, sizeof a);
        below += own < key;
    }
    return below;
}

/* Quickselect; a range that resists is sorted. */
#define MAX_TRIES 64u
void rvx_hits_select(rvx_hit *hits, size_t n, size_t m) {
    size_t low = 0, high = n;
    for (unsigned tries = 0; m > low && m < high; tries++) {
        size_t size = high - low;
        if (size <= 8 || tries > MAX_TRIES) {
            rvx_hits_sort(hits + low, size);
            return;
        }
        float pivot = size > 2 * SAMPLE ? pivot_for(hits + low, size, m - low)
                                        : median(hits[low].key, hits[low + size / 2].key,
                                                 hits[high - 1].key);
        size_t middle = low + rvx_hits_partition(hits + low, size, pivot);
        if (m <= middle)
            high = middle;
        else if (middle > low)
            low = middle;
        else
            tries = MAX_TRIES; /* many are equal to the pivot */
    }
}

/* ---- shortlists ------------------------------------------------------------------ */

/* Room beyond k, so that cuts are few. */
#define MIN_SPARE 32u

rv_status rvx_shortlist_init(rvx_shortlist *t, size_t k, rv_error *err) {
    size_t spare = k > MIN_SPARE ? k : MIN_SPARE;
    *t = (rvx_shortlist){.k = k, .room = k + spare};
    t->hit = rvb_alloc(t->room, sizeof *t->hit);
    if (!t->hit) return rvb_fail_memory(err, (uint64_t)t->room * sizeof *t->hit);
    rvx_shortlist_reset(t);
    return RV_OK;
}

void rvx_shortlist_clear(rvx_shortlist *t) {
    rvb_free(t->hit);
    *t = (rvx_shortlist){0};
}

void rvx_shortlist_reset(rvx_shortlist *t) {
    t->n = 0;
    t->worst = t->k ? INFINITY : -INFINITY;
}

/* By one division, which leaves some more than k. */
static void cut_roughly(rvx_shortlist *t) {
    float pivot = pivot_for(t->hit, t->n, t->k);
    size_t n = rvx_hits_partition(t->hit, t->n, pivot);
    if (n < t->k || n + t->k / 4 > t->room) {
        rvx_shortlist_cut(t);
        return;
    }
    t->n = n;
    t->worst = pivot;
}

void rvx_shortlist_push(rvx_shortlist *t, rvx_hit hit) {
    t->hit[t->n++] = hit;
    if (t->n == t->room) cut_roughly(t);
}

void rvx_shortlist_cut(rvx_shortlist *t) {
    if (t->n <= t->k) return;
    rvx_hits_select(t->hit, t->n, t->k);
    t->n = t->k;
    t->worst = t->hit[0].key;
    for (size_t i = 1; i < t->n; i++)
        if (t->hit[i].key > t->worst) t->worst = t->hit[i].key;
}
