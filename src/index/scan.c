/*
 * scan.c - one query against the lists of codes.
 *
 * Lists are visited nearest first. The kernel hands back the lanes of a block
 * whose lower bound beats the threshold; the bound is a function of integers and
 * of one fused expression per lane, so every instruction set hands back the same
 * ones. Rows that pass get their exact distance (or, without vectors, the
 * estimate with the unrounded query), a few at a time so that memory can be
 * fetched ahead. The threshold, the k-th best key so far, only falls, which is
 * what makes waiting safe.
 *
 * The bound (Gao & Long 2024, section 3.2; the estimator's error is epsilon times
 * its standard deviation): lb = A + G + B * (ip + t), B <= 0, with
 *   t = epsilon * sqrt((1 - 2/pi)/4 * padded/(padded-1) * |q-c|^2 + |dq|^2/4).
 * The first term is the code's own error with <o_bar, o> at its mean, sqrt(2/pi),
 * around which it hardly varies; the second that of rounding the query by dq.
 */
#include "index/index_i.h"

#include <float.h>
#include <math.h>

#define CODE_VARIANCE 0.0908451f /* (1 - 2/pi) / 4 */
/* Without vectors a row may be lost only through the rounding of the query: 4
 * standard deviations of it. */
#define ROUNDING_SIGMAS 4.0f
/* Relative float32 error allowed for in G and in the rotated query. */
#define ROUNDING_SLACK 0x1p-20f
/* Below this share of allowed rows, going to each of them is cheaper than a scan. */
#define DIRECT_SHARE 64u
#define AHEAD 24u /* rows fetched ahead of use; hides one memory latency */

#if defined(__GNUC__)
#define PREFETCH(p) __builtin_prefetch(p)
#else
#define PREFETCH(p) ((void)(p))
#endif

typedef struct waiting {
    uint32_t row;
    float bound; /* key the row cannot be better than */
} waiting;

typedef struct scan {
    rvx_scratch *s;
    bool exact; /* vectors are there to decide */
    size_t list;
    float t, g; /* of the current list; g is G less the slack */
    rvk_scan kernel;
    waiting ring[AHEAD];
    size_t head, n_waiting;
} scan;

/* ---- scratch ----------------------------------------------------------------- */

static size_t longest_list(const rvx_lists *lists) {
    size_t n = 0;
    for (uint32_t l = 0; l < lists->n_lists; l++)
        if (lists->list[l].n > n) n = lists->list[l].n;
    return n;
}

static void *carve(uint8_t **arena, size_t bytes) {
    void *p = *arena;
    *arena += (bytes + 63) / 64 * 64;
    return p;
}

rv_status rvx_scan_init(rvx_scratch *s, rv_error *err) {
    const rvx_quantizer *q = s->index->quantizer;
    const rvx_params *p = &s->params;
    size_t row = q->padded * sizeof(float), per_list = q->n_lists * sizeof(float);
    size_t lut = rvk_lut_bytes(s->ops->group, q->padded);
    size_t words = (longest_list(&s->index->lists) / RVK_BLOCK + 1) * sizeof(uint64_t);
    size_t total = 2 * row + 2 * per_list + q->padded + lut + words + 7 * 64;
    s->arena = rvb_alloc(total, 1);
    if (!s->arena) return rvb_fail_memory(err, total);
    uint8_t *at = s->arena;
    s->lut = carve(&at, lut);
    s->rotated = carve(&at, row);
    s->shifted = carve(&at, row);
    s->list_g2 = carve(&at, per_list);
    s->list_g = carve(&at, per_list);
    s->rounded = carve(&at, q->padded);
    s->words = carve(&at, words);
    RVB_TRY(rvx_topk_init(&s->order, q->n_lists, err));
    size_t best = p->cap ? p->cap : p->floor;
    size_t live = s->index->rows.n_live;
    return best ? rvx_topk_init(&s->pool, best < live ? best : live, err) : RV_OK;
}

void rvx_scan_clear(rvx_scratch *s) {
    rvb_free(s->arena);
    rvx_topk_clear(&s->order);
    rvx_topk_clear(&s->pool);
}

/* ---- the query ---------------------------------------------------------------- */

static void rank_lists(rvx_scratch *s) {
    const rvx_quantizer *q = s->index->quantizer;
    size_t padded = q->padded, stride = padded * sizeof(float);
    s->ops->l2sq_tile(s->rotated, 1, q->centroids, stride, q->n_lists, padded,
                      s->list_g2);
    if (q->metric == RV_IP) {
        for (size_t j = 0; j < padded; j++)
            s->shifted[j] = s->rotated[j] + q->rotated_mean[j];
        float mean_dot = s->ops->dot(q->mean, s->query, q->dim);
        s->magnitude = s->query_norm * sqrtf(s->ops->dot(q->mean, q->mean, q->dim));
        s->ops->dot_tile(s->shifted, 1, q->centroids, stride, q->n_lists, padded,
                         s->list_g);
        for (uint32_t l = 0; l < q->n_lists; l++)
            s->list_g[l] = -(mean_dot + s->list_g[l]);
    } else {
        memcpy(s->list_g, s->list_g2, q->n_lists * sizeof(float));
    }
    rvx_topk_reset(&s->order);
    for (uint32_t l = 0; l < q->n_lists; l++)
        rvx_topk_push(&s->order, (rvx_hit){.key = s->list_g[l], .row = l, .id = l});
    rvx_topk_sort(&s->order);
}

static void prepare(rvx_scratch *s) {
    const rvx_quantizer *q = s->index->quantizer;
    float scale = 1;
    if (q->metric == RV_COSINE) scale = s->query_norm > 0 ? 1 / s->query_norm : 0;
    rvx_quantizer_rotate(q, s->ops, s->query, scale, s->rotated);
    s->rotated_norm = sqrtf(s->ops->dot(s->rotated, s->rotated, q->padded));
    double sum = 0;
    for (size_t j = 0; j < q->padded; j++) sum += (double)s->rotated[j];
    s->half_sum = (float)(0.5 * sum);
    rvk_lut_build(s->ops->group, q->padded, s->rotated, s->rounded, s->lut, &s->rq);
    rank_lists(s);
}

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

static float row_norm(const rvx_scratch *s, size_t row) {
    float norm;
    memcpy(&norm, rvx_cell(&s->index->rows.column[RVX_NORMS], row), sizeof norm);
    return norm;
}

float rvx_cosine_key(const rvx_scratch *s, size_t row, float dot) {
    double length = (double)s->query_norm * row_norm(s, row);
    float cosine = length > 0 ? (float)(dot / length) : 0;
    return -(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
}

float rvx_exact_key(const rvx_scratch *s, size_t row) {
    const rv_index *index = s->index;
    const float *v = rvx_row_vector(&index->rows, row);
    if (index->metric == RV_L2) return s->ops->l2sq(s->query, v, index->dim);
    float dot = s->ops->dot(s->query, v, index->dim);
    return index->metric == RV_IP ? -dot : rvx_cosine_key(s, row, dot);
}

/* The estimate with the query as it is, not rounded. */
static float coded_key(const rvx_scratch *s, size_t row) {
    const rvx_rows *rows = &s->index->rows;
    bool cosine = s->index->metric == RV_COSINE;
    if (cosine && (s->query_norm == 0 || row_norm(s, row) == 0))
        return rvx_cosine_key(s, row, 0);
    rvx_factors f;
    uint32_t list;
    memcpy(&f, rvx_cell(&rows->column[RVX_FACTORS], row), sizeof f);
    memcpy(&list, rvx_cell(&rows->column[RVX_LISTS], row), sizeof list);
    const uint8_t *code = rvx_cell(&rows->column[RVX_CODES], row);
    float ip =
        s->ops->code_dot(code, s->rotated, s->index->quantizer->padded) - s->half_sum;
    return estimate_key(s->index->metric, f.a + s->list_g[list] + f.b * ip);
}

/* ---- deciding ------------------------------------------------------------------ */

static void decide(scan *c, size_t row) {
    rvx_scratch *s = c->s;
    float key = c->exact ? rvx_exact_key(s, row) : coded_key(s, row);
    if (key > s->top.worst) return;
    uint64_t id = rvx_row_id(&s->index->rows, row);
    rvx_topk_push(&s->top, (rvx_hit){.key = key, .row = (uint32_t)row, .id = id});
}

/* A floor promises to look at its rows whatever the bound says by now. */
static void decide_oldest(scan *c) {
    waiting w = c->ring[c->head];
    c->head = (c->head + 1) % AHEAD;
    c->n_waiting--;
    float threshold = to_scan_space(c->s->index->metric, c->s->top.worst);
    if (w.bound < threshold || c->s->params.floor) decide(c, w.row);
}

static void enqueue(scan *c, size_t row, float bound) {
    const rvx_rows *rows = &c->s->index->rows;
    const char *p = rvx_cell(&rows->column[c->exact ? RVX_VECTORS : RVX_CODES], row);
    size_t bytes = rows->column[c->exact ? RVX_VECTORS : RVX_CODES].width;
    for (size_t at = 0; at < bytes && at < 512; at += 64) PREFETCH(p + at);
    if (c->n_waiting == AHEAD) decide_oldest(c);
    c->ring[(c->head + c->n_waiting++) % AHEAD] = (waiting){(uint32_t)row, bound};
}

static float pool_worst(const scan *c) {
    return c->s->pool.k ? c->s->pool.worst : -INFINITY;
}

/* Lower bounds, or with a cap estimates, below this pass. */
static float limit(const scan *c) {
    float best = pool_worst(c);
    if (!c->s->params.cap) {
        float threshold = to_scan_space(c->s->index->metric, c->s->top.worst);
        if (!(best > threshold)) best = threshold;
    }
    return best - c->g;
}

/* Pool entries keep the row in the upper half of the id, where it breaks ties, and
 * a note in the lower: the bits of the bound (cap), or whether the row has been
 * sent to be decided already (floor). */
static void pool_push(scan *c, float estimate, uint32_t row, uint32_t note) {
    if (estimate > pool_worst(c)) return;
    rvx_topk_push(
        &c->s->pool,
        (rvx_hit){.key = estimate, .row = row, .id = (uint64_t)row << 32 | note});
}

static void visit(scan *c, const rvx_list *list, size_t block, uint64_t mask,
                  const float *bounds) {
    const rvx_lists *lists = &c->s->index->lists;
    uint8_t *at = list->blocks + block * lists->block_bytes;
    const float *b = rvk_block_b(lists->group, lists->padded, at);
    const rvx_params *p = &c->s->params;
    float threshold = to_scan_space(c->s->index->metric, c->s->top.worst);
    for (unsigned lane = 0; lane < RVK_BLOCK; lane++) {
        if (!(mask >> lane & 1)) continue;
        uint32_t row = list->rows[block * RVK_BLOCK + lane];
        float passed = bounds[lane] + c->g;
        if (p->cap) {
            float bound = passed + b[lane] * c->t;
            uint32_t bits;
            memcpy(&bits, &bound, sizeof bits);
            pool_push(c, passed, row, bits);
            continue;
        }
        bool wanted = passed < threshold;
        if (wanted) enqueue(c, row, passed);
        if (p->floor) pool_push(c, passed - b[lane] * c->t, row, wanted);
    }
}

/* t and g of the current list. */
static void set_bound(scan *c) {
    const rvx_scratch *s = c->s;
    float padded = (float)s->index->quantizer->padded;
    float g2 = s->list_g2[c->list], distance = sqrtf(g2);
    float variance = 0.25f * s->rq.error * s->rq.error;
    float sigmas = ROUNDING_SIGMAS;
    if (c->exact) {
        variance += CODE_VARIANCE * padded / (padded - 1) * g2;
        sigmas = s->params.epsilon;
    }
    float terms = s->rotated_norm + distance; /* bounds the centroid's norm too */
    c->t = sigmas * sqrtf(variance) + 0.5f * ROUNDING_SLACK * sqrtf(padded) * terms;
    if (!(c->t < FLT_MAX)) c->t = FLT_MAX; /* infinity times B = 0 would be NaN */
    float magnitude = s->index->metric == RV_IP ? s->magnitude + terms * s->query_norm
                                                : terms * distance;
    if (s->index->metric == RV_COSINE) magnitude += 2; /* the exact key's own rounding */
    /* FLT_MIN lets a row at the very place of the query, bound 0, pass threshold 0. */
    c->g = s->list_g[c->list] - (ROUNDING_SLACK * magnitude + FLT_MIN);
}

static void enter_list(scan *c, const rvx_filter *filter) {
    const rvx_scratch *s = c->s;
    const rvx_list *list = &s->index->lists.list[c->list];
    set_bound(c);
    c->kernel = (rvk_scan){.blocks = list->blocks,
                           .n_blocks = (list->n + RVK_BLOCK - 1) / RVK_BLOCK,
                           .lut = s->lut,
                           .padded = s->index->quantizer->padded,
                           .step = s->rq.step,
                           .bias = s->rq.bias + (s->params.cap ? 0 : c->t)};
    if (filter) {
        rvx_filter_words(filter, list, s->words);
        c->kernel.allow = s->words;
    }
}

static void scan_lists(scan *c, const rvx_filter *filter) {
    rvx_scratch *s = c->s;
    float bounds[RVK_BLOCK];
    uint64_t mask;
    for (size_t i = 0; i < s->order.n; i++) {
        c->list = s->order.hit[i].row;
        const rvx_list *list = &s->index->lists.list[c->list];
        if (list->n == 0) continue;
        enter_list(c, filter);
        for (size_t block = 0;; block++) {
            c->kernel.limit = limit(c);
            block = s->ops->scan(&c->kernel, block, &mask, bounds);
            if (block >= c->kernel.n_blocks) break;
            visit(c, list, block, mask, bounds);
        }
    }
}

/* What floor or cap still ask for once every list has been seen. */
static void finish_pool(scan *c) {
    rvx_scratch *s = c->s;
    rvx_topk_sort(&s->pool);
    for (size_t i = 0; i < s->pool.n; i++) {
        uint32_t note = (uint32_t)s->pool.hit[i].id;
        if (s->params.cap) {
            float bound;
            memcpy(&bound, &note, sizeof bound);
            enqueue(c, s->pool.hit[i].row, bound);
        } else if (!note) {
            enqueue(c, s->pool.hit[i].row, -INFINITY);
        }
    }
    while (c->n_waiting) decide_oldest(c);
}

static void decide_allowed(scan *c, const rvx_filter *filter) {
    for (size_t word = 0; word < (filter->n_rows + 63) / 64; word++) {
        if (!filter->bits[word]) continue;
        for (size_t row = word * 64; row < filter->n_rows && row < word * 64 + 64; row++)
            if (rvx_bit(filter->bits, row) && rvx_row_live(&c->s->index->rows, row))
                enqueue(c, row, -INFINITY);
    }
    while (c->n_waiting) decide_oldest(c);
}

void rvx_scan_query(rvx_scratch *s, const rvx_filter *filter) {
    scan c = {.s = s, .exact = s->index->has_vectors};
    rvx_topk_reset(&s->pool);
    bool direct = filter &&
                  filter->count <= s->index->rows.n / DIRECT_SHARE + s->params.k &&
                  !s->params.cap;
    if (!direct || !c.exact) prepare(s);
    if (direct) {
        decide_allowed(&c, filter);
        return;
    }
    scan_lists(&c, filter);
    while (c.n_waiting) decide_oldest(&c);
    if (s->pool.k) finish_pool(&c);
}
