/*
 * rerank.c - from rows that pass a bound to answers, in one or two steps.
 *
 * A row whose sign code gives a lower bound below the threshold waits, a few rows long,
 * while its memory is fetched. With multi-bit codes the next step is their estimate and
 * its tighter bound; only what still passes gets its exact distance. Without vectors the
 * last estimate is the answer. The threshold, the k-th best key so far, only falls,
 * which is what makes waiting safe.
 *
 * The bound (Gao & Long 2024, section 3.2; the estimator's error is epsilon times its
 * standard deviation): lb = A + G + B * (ip + t), B <= 0, with
 *   t = epsilon * sqrt((1 - 2/pi)/4 * padded/(padded-1) * |q-c|^2 + |dq|^2/4).
 * The first term is the code's own error with <o_bar, o> at its mean, sqrt(2/pi), around
 * which it hardly varies; the second that of rounding the query by dq. The estimate from
 * magnitudes uses the query as it is and carries its own error factor.
 *
 * The bound is lowered further by what float32 may be off by, whatever the scales of
 * rows, mean and centroids. With u = 2^-24, D = padded, lengths |o|, |m|, |c|, |q| as
 * above, d = |q - c|, and K = |r| / <o_bar, o> >= |r|, which B tells (|B| = 4 K /
 * sqrt(D), for ip half of it):
 *
 *   a sum over D elements       off by (D/16 + 4) u times the product of the lengths
 *   P(v - m)                    off by p u |v - m|, p = 4 (log2 D + 2) + 3 <= 63, and
 *                               |q - x|^2 by twice |q - x| times both, plus its square
 *   the code's inner product    off by 4 u K |q|; read bit by bit, by its own sum
 *   all other sums and products a few u of their largest term
 *
 * Added up for each product of lengths, no factor is above w = (D/4 + 160) u:
 *
 *   l2, cosine  w (d + K) (|q| + |c| + d) + w K^2 + (w (|q| + |c|))^2, and 2 w for cosine
 *   ip          w (K + |query|) (|m| + |c|) + w K |query|
 *
 * What K is a factor of goes into t, or lies in A (w K^2, see inverted_lists.c). Squares
 * below 2^-126 lose up to D 2^-150: a length up to 2^-64, the share of a shorter residual
 * in an estimate up to 2^-60 times the other lengths, a key FLT_MIN.
 */
#include "index/index_i.h"

#include <float.h>
#include <math.h>

/* Where estimates are the answer, one may be missed only through the rounding of the
 * query: 4 standard deviations of it. */
#define ROUNDING_SIGMAS 4.0f

/* ---- keys ----------------------------------------------------------------------- */

/* Squared distance between unit vectors is 2 - 2 cos. */
static float to_scan_space(rv_metric metric, float key) {
    return metric == RV_COSINE ? 2 + 2 * key : key;
}

static float estimate_key(rv_metric metric, float estimate) {
    if (metric == RV_IP) return estimate;
    if (metric == RV_L2) return estimate > 0 ? estimate : 0;
    float key = 0.5f * estimate - 1;
    return key < -1 ? -1 : key > 1 ? 1 : key;
}

static float row_norm(const rvx_query_state *s, size_t row) {
    float norm;
    memcpy(&norm, rvx_cell(&s->index->rows.column[RVX_NORMS], row), sizeof norm);
    return norm;
}

static float cosine_key(float dot, float query_norm, float norm) {
    double length = (double)query_norm * norm;
    float cosine = length > 0 ? (float)(dot / length) : 0;
    return -(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
}

/* Of a row whose inner product may be too small for float32, or which is 0. */
static float lifted_key(const rvx_query_state *s, size_t row) {
    float room[RV_MAX_DIM], norm;
    size_t dim = s->index->dim;
    memcpy(room, rvx_cell(&s->index->rows.column[RVX_VECTORS], row), dim * sizeof *room);
    const float *v = rvx_lifted(s->ops, room, dim, room, &norm);
    return cosine_key(s->ops->dot(s->query, v, dim), s->query_norm, norm);
}

float rvx_cosine_key(const rvx_query_state *s, size_t row, float dot) {
    float norm = row_norm(s, row);
    if (norm < RVX_TINY_NORM && s->index->vector_bits == 32) return lifted_key(s, row);
    return cosine_key(dot, s->query_norm, norm);
}

float rvx_exact_key(const rvx_query_state *s, size_t row) {
    const rv_index *index = s->index;
    const void *v = rvx_cell(&index->rows.column[RVX_VECTORS], row);
    bool halves = rvx_keeps_halves(index);
    if (index->metric == RV_L2)
        return halves ? s->ops->l2sq_half(s->query, v, index->dim)
                      : s->ops->l2sq(s->query, v, index->dim);
    float dot = halves ? s->ops->dot_half(s->query, v, index->dim)
                       : s->ops->dot(s->query, v, index->dim);
    return index->metric == RV_IP ? -dot : rvx_cosine_key(s, row, dot);
}

/* What estimates of a list may be off by through float32; see above. */
typedef struct allowance {
    float distance; /* |q - c|, and what may have been lost of it */
    float lengths;  /* what K is multiplied by, without w */
    float constant; /* what it does not depend on */
} allowance;

static allowance allowance_of(const rvx_query_state *s, uint32_t list) {
    const rvx_quantizer *q = s->index->quantizer;
    float w = rvx_rounding(q->padded), lost = 0x1p-64f;
    float centroid = sqrtf(2 * q->near.half_norms[list]) + lost;
    float distance = sqrtf(s->list_g2[list]) + lost, constant;
    float lengths = s->rotated_norm + centroid + distance;
    if (q->metric == RV_IP) {
        lengths = s->query_norm + s->mean_norm + centroid;
        constant = w * s->query_norm * (s->mean_norm + centroid);
    } else {
        float square = w * (s->rotated_norm + centroid);
        constant = w * distance * lengths + square * square;
        if (q->metric == RV_COSINE) constant += 2 * w; /* the exact key's own */
    }
    constant += 0x1p-60f * lengths + FLT_MIN;
    return (allowance){distance, lengths, constant};
}

float rvx_estimate(const rvx_query_state *s, size_t row, uint32_t list, float *bound) {
    const rvx_rows *rows = &s->index->rows;
    const rvx_quantizer *q = s->index->quantizer;
    const uint8_t *code = rvx_cell(&rows->column[RVX_CODES], row);
    const void *factors = rvx_cell(&rows->column[RVX_FACTORS], row);
    const allowance off = allowance_of(s, list);
    float a, b, ip, deviation, sign_b;
    if (q->extra) {
        rvx_fine_factors f;
        memcpy(&f, factors, sizeof f);
        a = f.a;
        b = f.b;
        sign_b = f.sign.b;
        ip = s->ops->level_dot(code, code + q->padded / 8, q->extra, s->rotated,
                               q->padded);
        deviation = f.e * off.distance;
    } else {
        rvx_factors f;
        memcpy(&f, factors, sizeof f);
        a = f.a;
        b = sign_b = f.b;
        ip = s->ops->code_dot(code, s->rotated, q->padded);
        deviation = -b * rvx_estimator_stddev(q->padded, off.distance, 0);
    }
    float value = a + s->list_g[list] + b * (ip - s->half_sum);
    float levels =
        (float)(1u << q->extra) * sqrtf((float)q->padded); /* >= |y|, K = -b |y| */
    float rounding = rvx_rounding(q->padded) * -b * levels * off.lengths;
    *bound = value - s->params.epsilon * deviation - off.constant - rounding -
             s->index->lists.curvature * sign_b * sign_b;
    return value;
}

/* A code says nothing about a zero vector, whose cosine is defined as 0. */
static float coded_key(const rvx_query_state *s, size_t row, float estimated) {
    bool cosine = s->index->metric == RV_COSINE;
    if (cosine && (s->query_norm == 0 || row_norm(s, row) == 0))
        return rvx_cosine_key(s, row, 0);
    return estimate_key(s->index->metric, estimated);
}

/* ---- bounds ---------------------------------------------------------------------- */

void rvx_enter_list(rvx_query_state *s, uint32_t list) {
    rvx_measure_list(s, list);
    size_t padded = s->index->quantizer->padded;
    const allowance off = allowance_of(s, list);
    bool estimate_decides = !s->index->has_vectors && s->index->bits == 1;
    float width =
        estimate_decides
            ? ROUNDING_SIGMAS * rvx_estimator_stddev(padded, 0, s->rq.error)
            : s->params.epsilon * rvx_estimator_stddev(padded, off.distance, s->rq.error);
    s->t = width + 0.5f * sqrtf((float)padded) * rvx_rounding(padded) * off.lengths;
    if (!(s->t < FLT_MAX)) s->t = FLT_MAX; /* infinity times B = 0 would be NaN */
    s->g = s->list_g[list] - off.constant;
    /* taken smaller by more than the float32 arithmetic of bound and estimate is off */
    float least =
        (1 - 0x1p-10f) * s->t * s->index->lists.list[list].least_b - off.constant;
    s->least = s->index->bits == 1 && least > 0 ? least : 0;
    s->list = list;
}

static float threshold(const rvx_query_state *s) {
    return to_scan_space(s->index->metric, s->top.worst);
}

bool rvx_scans_estimates(const rvx_query_state *s) {
    return s->params.max_rerank && s->index->bits == 1;
}

float rvx_limit(const rvx_query_state *s) {
    float best = s->shortlist.k ? s->shortlist.worst : -INFINITY;
    if (s->params.max_rerank) return best;
    float worst = threshold(s);
    best -= s->least;
    return best > worst ? best : worst;
}

/* ---- steps ----------------------------------------------------------------------- */

/* Where ids ascend with the rows, rows break ties as ids would, and no id is fetched. */
static void push(rvx_query_state *s, size_t row, float key) {
    if (key > s->top.worst) return;
    const rvx_rows *rows = &s->index->rows;
    uint64_t id = rows->ids_ascending ? row : rvx_row_id(rows, row);
    rvx_topk_push(&s->top, (rvx_hit){.key = key, .row = (uint32_t)row, .id = id});
}

static void rerank(rvx_query_state *s, size_t row, uint32_t list) {
    const rvx_column *column = s->index->rows.column;
    int what = s->index->has_vectors ? RVX_VECTORS : RVX_CODES;
    s->cost += RVX_ROW_COST + RVX_SCATTERED * column[what].width;
    if (s->index->has_vectors) {
        push(s, row, rvx_exact_key(s, row));
        return;
    }
    float bound;
    push(s, row, coded_key(s, row, rvx_estimate(s, row, list, &bound)));
}

static void fetch(const rvx_query_state *s, int column, size_t row) {
    const rvx_column *c = &s->index->rows.column[column];
    rvx_fetch(rvx_cell(c, row), c->width < RVX_ROW_FETCH ? c->width : RVX_ROW_FETCH);
}

static rvx_pending take(rvx_prefetch_queue *queue) {
    rvx_pending w = queue->at[queue->head];
    queue->head = (queue->head + 1) % RVX_AHEAD;
    queue->n--;
    return w;
}

static void put(rvx_prefetch_queue *queue, rvx_pending w) {
    queue->at[(queue->head + queue->n++) % RVX_AHEAD] = w;
}

/* min_rerank promises to look at its rows whatever the bound says by now. */
static void rerank_oldest(rvx_query_state *s) {
    rvx_pending w = take(&s->fine);
    if (w.bound < threshold(s) || s->params.min_rerank) rerank(s, w.row, w.list);
}

static void enqueue_rerank(rvx_query_state *s, rvx_pending w) {
    fetch(s, s->index->has_vectors ? RVX_VECTORS : RVX_CODES, w.row);
    if (s->fine.n == s->ahead) rerank_oldest(s);
    put(&s->fine, w);
}

/* Entries of the shortlist keep the row in the upper half of the id, where it breaks
 * ties, and a note in the lower: the bits of the bound (max_rerank), or whether the row
 * has been sent to be reranked already (min_rerank). */
static void shortlist_push(rvx_query_state *s, float estimated, uint32_t row,
                           uint32_t note) {
    if (!(estimated <= s->shortlist.worst)) return;
    rvx_shortlist_push(
        &s->shortlist,
        (rvx_hit){.key = estimated, .row = row, .id = (uint64_t)row << 32 | note});
}

/* A row with the best estimate and bound its code can give. */
static void admit(rvx_query_state *s, rvx_pending w, float estimated) {
    if (s->params.max_rerank) {
        uint32_t bits;
        memcpy(&bits, &w.bound, sizeof bits);
        shortlist_push(s, estimated, w.row, bits);
        return;
    }
    bool wanted = w.bound < threshold(s);
    if (wanted) enqueue_rerank(s, w);
    if (s->params.min_rerank) shortlist_push(s, estimated, w.row, wanted);
}

/* What the stored code says of a row with the query as it is. */
static void estimate_full(rvx_query_state *s, rvx_pending w) {
    float estimated = rvx_estimate(s, w.row, w.list, &w.bound);
    s->cost += RVX_ROW_COST + RVX_SCATTERED * s->index->rows.column[RVX_CODES].width;
    if (s->index->has_vectors)
        admit(s, w, estimated);
    else
        push(s, w.row, coded_key(s, w.row, estimated));
}

static void estimate_oldest(rvx_query_state *s) {
    rvx_pending w = take(&s->coarse);
    if (w.bound < rvx_limit(s)) estimate_full(s, w);
}

static void enqueue_estimate(rvx_query_state *s, rvx_pending w) {
    fetch(s, RVX_CODES, w.row);
    fetch(s, RVX_FACTORS, w.row);
    if (s->coarse.n == RVX_AHEAD) estimate_oldest(s);
    put(&s->coarse, w);
}

void rvx_consider_row(rvx_query_state *s, size_t row) {
    rvx_pending w = {.row = (uint32_t)row, .bound = -INFINITY};
    memcpy(&w.list, rvx_cell(&s->index->rows.column[RVX_LISTS], row), sizeof w.list);
    rvx_measure_list(s, w.list);
    enqueue_estimate(s, w);
}

static rvx_candidate bounds_of(const rvx_query_state *s, float value, float b) {
    rvx_candidate p = {.list = s->list, .bound = value + s->g};
    p.estimated = p.bound;
    if (s->params.max_rerank)
        p.bound += b * s->t;
    else
        p.estimated -= b * s->t;
    return p;
}

/* The limit of the scan lets rows pass that neither threshold nor min_rerank ask for. */
static bool is_wanted(const rvx_query_state *s, const rvx_candidate *p) {
    if (!s->shortlist.k || s->params.max_rerank || s->index->bits > 1) return true;
    return p->bound < threshold(s) || p->estimated <= s->shortlist.worst;
}

static void consider(rvx_query_state *s, uint32_t row, const rvx_candidate *p) {
    rvx_pending w = {.row = row, .list = p->list, .bound = p->bound};
    if (s->index->bits > 1)
        enqueue_estimate(s, w);
    else
        admit(s, w, p->estimated);
}

void rvx_consider(rvx_query_state *s, uint32_t row, float value, float b) {
    rvx_candidate p = bounds_of(s, value, b);
    consider(s, row, &p);
}

static void consider_oldest(rvx_query_state *s) {
    rvx_candidate p = s->candidate[s->first_candidate];
    s->first_candidate = (s->first_candidate + 1) % RVX_CANDIDATES;
    s->n_candidates--;
    consider(s, *p.row, &p);
}

void rvx_consider_slot(rvx_query_state *s, const uint32_t *row, float value, float b) {
    rvx_candidate p = bounds_of(s, value, b);
    if (!is_wanted(s, &p)) return;
    if (s->n_candidates == RVX_CANDIDATES) consider_oldest(s);
    p.row = row;
    rvx_fetch(row, sizeof *row);
    s->candidate[(s->first_candidate + s->n_candidates++) % RVX_CANDIDATES] = p;
}

void rvx_flush(rvx_query_state *s) {
    while (s->n_candidates) consider_oldest(s);
    while (s->coarse.n) estimate_oldest(s);
    while (s->fine.n) rerank_oldest(s);
}

void rvx_flush_shortlist(rvx_query_state *s) {
    rvx_shortlist_cut(&s->shortlist);
    if (s->params.max_rerank)
        rvx_hits_sort(s->shortlist.hit, s->shortlist.n); /* lets the last be skipped */
    for (size_t i = 0; i < s->shortlist.n; i++) {
        uint32_t note = (uint32_t)s->shortlist.hit[i].id;
        rvx_pending w = {.row = s->shortlist.hit[i].row, .bound = -INFINITY};
        memcpy(&w.list, rvx_cell(&s->index->rows.column[RVX_LISTS], w.row),
               sizeof w.list);
        if (s->params.max_rerank) {
            memcpy(&w.bound, &note, sizeof w.bound);
            enqueue_rerank(s, w);
        } else if (!note) {
            enqueue_rerank(s, w);
        }
    }
    rvx_flush(s);
}
