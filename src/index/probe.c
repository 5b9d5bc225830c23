/*
 * probe.c - how many lists a query looks into, and in which order it prefers them.
 *
 * A query close to one centroid has its neighbors in few lists, one between centroids in
 * many. So a search that is to look into `nprobe` lists takes those whose key is at most
 * the smallest key plus a reach, and the reach is the one within which points of the
 * training sample had `nprobe` lists on average. The key is
 *   |q - c|^2 + half the mean of |o - c|^2 over the list's rows o:
 * of two lists at the same distance, the one that lies closer around its centroid is the
 * likelier one to hold a neighbor. Squared distances only: inner products have no such
 * scale.
 */
#include "index/index_i.h"

#include <math.h>

#define POINTS 512u
#define MIN_POINTS 64u
#define MAX_KEYS (UINT64_C(1) << 20)
/* Floats >= 0 are ordered as their bits are; the upper half tells them apart by 2^-7. */
#define BINS 65536u

/* 1, 2, 3, 4, 6, 8, 12, ..., 2^16: entry i of the table of reaches. */
static size_t probes_at(size_t i) {
    return i == 0 ? 1 : i % 2 ? (size_t)1 << (i + 1) / 2 : (size_t)3 << (i / 2 - 1);
}

float rvx_probe_radius(const rvx_quantizer *q, size_t nprobe) {
    size_t i = 0;
    while (i + 1 < RVX_PROBE_RADII && probes_at(i + 1) <= nprobe) i++;
    if (i + 1 == RVX_PROBE_RADII) return q->reach[i];
    float step = (float)(probes_at(i + 1) - probes_at(i));
    float part = (float)(nprobe - probes_at(i)) / step;
    return q->reach[i] + part * (q->reach[i + 1] - q->reach[i]);
}

static uint32_t bin_of(float difference) {
    uint32_t bits;
    memcpy(&bits, &difference, sizeof bits);
    return bits >> 16;
}

static float end_of(uint32_t bin) {
    uint32_t bits = bin << 16 | 0xffff;
    float end;
    memcpy(&end, &bits, sizeof end);
    return end;
}

/* Counts the keys of one point by their distance from the smallest. */
static void count_keys(const rvx_quantizer *q, const rvk_ops *ops, const float *point,
                       float *keys, uint32_t *bins) {
    size_t n = q->n_lists, padded = q->padded;
    float least = INFINITY;
    ops->l2sq_tile(point, 1, q->centroids, padded * sizeof(float), n, padded, keys);
    for (size_t l = 0; l < n; l++) {
        keys[l] += q->spread[l];
        if (keys[l] < least) least = keys[l];
    }
    for (size_t l = 0; l < n; l++) bins[bin_of(keys[l] - least)]++;
}

static void set_reaches(rvx_quantizer *q, const uint32_t *bins, size_t n_points) {
    uint64_t seen = 0, all = (uint64_t)n_points * q->n_lists;
    uint32_t bin = 0;
    for (size_t i = 0; i < RVX_PROBE_RADII; i++) {
        uint64_t wanted = (uint64_t)n_points * probes_at(i);
        if (wanted > all) wanted = all;
        for (; seen < wanted; bin++) seen += bins[bin];
        q->reach[i] = end_of(bin > 0 ? bin - 1 : 0);
    }
}

rv_status rvx_probe_train(rvx_quantizer *q, const rvk_ops *ops, const float *points,
                          size_t n, rv_error *err) {
    size_t n_points = n < POINTS ? n : POINTS;
    while (n_points > MIN_POINTS && (uint64_t)n_points * q->n_lists > MAX_KEYS)
        n_points /= 2;
    float *keys = rvb_alloc(q->n_lists, sizeof *keys);
    uint32_t *bins = rvb_alloc_zero(BINS, sizeof *bins);
    rv_status status = RV_OK;
    if (keys && bins) {
        for (size_t i = 0; i < n_points; i++)
            count_keys(q, ops, points + i * n / n_points * q->padded, keys, bins);
        set_reaches(q, bins, n_points);
    } else {
        status = rvb_fail_memory(err, BINS * sizeof *bins);
    }
    rvb_free(keys);
    rvb_free(bins);
    return status;
}

/* ---- what a query takes --------------------------------------------------------- */

/* From distances to keys; returns the smallest. The nearest list, where a row equal to
 * the query is, comes first whatever its spread. */
static float set_keys(const rvx_quantizer *q, rvx_hit *lists, size_t n) {
    size_t nearest = 0;
    float best = INFINITY;
    for (size_t i = 1; i < n; i++)
        if (rvx_hit_before(&lists[i], &lists[nearest])) nearest = i;
    for (size_t i = 0; i < n; i++) {
        lists[i].key += q->spread[lists[i].row];
        if (lists[i].key < best) best = lists[i].key;
    }
    lists[nearest].key = best;
    return best;
}

size_t rvx_probe_choose(const rvx_quantizer *q, size_t nprobe, rvx_hit *lists, size_t n) {
    size_t least = nprobe, most = nprobe < n ? nprobe : n, taken = n;
    if (q->spread && nprobe < n) {
        float best = set_keys(q, lists, n);
        taken = rvx_hits_partition(
            lists, n, nextafterf(best + rvx_probe_radius(q, nprobe), INFINITY));
        least = (nprobe + 1) / 2;
        most = RVX_MAX_PROBED(nprobe) < n ? RVX_MAX_PROBED(nprobe) : n;
    }
    if (taken > most) {
        rvx_hits_select(lists, taken, most);
        taken = most;
    } else if (taken < least) {
        taken = least < n ? least : n;
        rvx_hits_select(lists, n, taken);
    }
    return taken;
}
