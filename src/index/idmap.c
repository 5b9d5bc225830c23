/*
 * idmap.c - from an id to its row. While ids ascend, which they do unless a
 * caller chose otherwise, a binary search over the id column needs no memory;
 * else a hash table of row numbers with linear probing, whose keys are read from
 * the rows. Only live rows stand in the table. Ids come from strangers, so each
 * table hashes them with a key of its own.
 */
#include "index/index_i.h"

static size_t slot_of(const rvx_idmap *map, uint64_t id) {
    return (size_t)rvb_hash(&map->key, id) & (map->capacity - 1);
}

static size_t next_slot(const rvx_idmap *map, size_t slot) {
    return (slot + 1) & (map->capacity - 1);
}

/* The slot holding `id`, or the free one where it would go, from its first slot on. */
static size_t find_from(const rvx_idmap *map, const rvx_rows *rows, uint64_t id,
                        size_t slot) {
    while (map->slots[slot] && rvx_row_id(rows, map->slots[slot] - 1) != id)
        slot = next_slot(map, slot);
    return slot;
}

static size_t find_slot(const rvx_idmap *map, const rvx_rows *rows, uint64_t id) {
    return find_from(map, rows, id, slot_of(map, id));
}

void rvx_idmap_clear(rvx_idmap *map) {
    rvb_free(map->slots);
    rvb_free(map->twins);
    *map = (rvx_idmap){0};
}

/* At most two thirds full. */
static rv_status table_alloc(size_t n, rvx_idmap *out, rv_error *err) {
    *out = (rvx_idmap){0};
    size_t capacity = 16;
    while (capacity / 3 * 2 < n) {
        if (capacity > SIZE_MAX / 2) return rvb_fail_memory(err, UINT64_MAX);
        capacity *= 2;
    }
    out->slots = rvb_alloc_zero(capacity, sizeof *out->slots);
    if (!out->slots) return rvb_fail_memory(err, (uint64_t)capacity * sizeof *out->slots);
    out->capacity = capacity;
    out->key = rvb_hash_key_draw();
    return RV_OK;
}

/* False if its id is there already: the lower row stays. */
static bool insert_from(rvx_idmap *map, const rvx_rows *rows, size_t row, size_t slot) {
    slot = find_from(map, rows, rvx_row_id(rows, row), slot);
    if (map->slots[slot]) return false;
    map->slots[slot] = (uint32_t)row + 1;
    map->n++;
    return true;
}

#define AT_ONCE 16u /* slots asked for before the first is looked at */

/* Returns the first row whose id was there already, or `end`. */
static size_t insert_rows(rvx_idmap *map, const rvx_rows *rows, size_t begin,
                          size_t end) {
    size_t slot[AT_ONCE], first_twin = end;
    for (size_t at = begin; at < end; at += AT_ONCE) {
        size_t n = end - at < AT_ONCE ? end - at : AT_ONCE;
        for (size_t i = 0; i < n; i++) {
            slot[i] = slot_of(map, rvx_row_id(rows, at + i));
            rvx_fetch(&map->slots[slot[i]], sizeof *map->slots);
        }
        for (size_t i = 0; i < n; i++)
            if (rvx_row_live(rows, at + i) && !insert_from(map, rows, at + i, slot[i]) &&
                first_twin == end)
                first_twin = at + i;
    }
    return first_twin;
}

void rvx_idmap_insert_rows(rvx_idmap *map, const rvx_rows *rows, size_t begin,
                           size_t end) {
    (void)insert_rows(map, rows, begin, end);
}

rv_status rvx_idmap_build(const rvx_rows *rows, size_t extra, bool needed, rvx_idmap *out,
                          rv_error *err) {
    *out = (rvx_idmap){0};
    if (!needed) return RV_OK;
    size_t n;
    if (!rvb_add(rows->n_live, extra, &n)) return rvb_fail_memory(err, UINT64_MAX);
    RVB_TRY(table_alloc(n + n / 2, out, err));
    rvx_idmap_insert_rows(out, rows, 0, rows->n);
    if (out->n == rows->n_live) return RV_OK;
    rv_status status = rvx_idmap_reserve_twins(out, rows->n, err);
    if (status == RV_OK)
        rvx_idmap_link_twins(out, rows);
    else
        rvx_idmap_clear(out);
    return status;
}

/* ---- ids on several rows ------------------------------------------------------ */

rv_status rvx_idmap_reserve_twins(rvx_idmap *map, size_t n_rows, rv_error *err) {
    map->twins = rvb_alloc_zero(n_rows, sizeof *map->twins);
    if (!map->twins) return rvb_fail_memory(err, (uint64_t)n_rows * sizeof *map->twins);
    map->n_twins = n_rows;
    return RV_OK;
}

void rvx_idmap_link_twins(rvx_idmap *map, const rvx_rows *rows) {
    if (map->n == rows->n_live) {
        rvb_free(map->twins);
        map->twins = NULL;
        map->n_twins = 0;
        return;
    }
    for (size_t row = rows->n; row-- > 0;) {
        if (!rvx_row_live(rows, row)) continue;
        uint32_t entry = map->slots[find_slot(map, rows, rvx_row_id(rows, row))];
        if (entry - 1 == row) continue;
        map->twins[row] = map->twins[entry - 1];
        map->twins[entry - 1] = (uint32_t)row + 1;
    }
}

size_t rvx_idmap_twin(const rvx_idmap *map, size_t row) {
    uint32_t entry = row < map->n_twins ? map->twins[row] : 0;
    return entry ? entry - 1 : RVX_NO_ROW;
}

/* ---- one by one ------------------------------------------------------------------ */

void rvx_idmap_insert(rvx_idmap *map, const rvx_rows *rows, size_t row) {
    (void)insert_from(map, rows, row, slot_of(map, rvx_row_id(rows, row)));
}

/* Knuth, vol. 3, 6.4 R: entries after the hole move back unless that would put
 * them before their own slot. */
void rvx_idmap_erase(rvx_idmap *map, const rvx_rows *rows, size_t row) {
    size_t hole = find_slot(map, rows, rvx_row_id(rows, row));
    if (map->slots[hole] != (uint32_t)row + 1) return;
    size_t mask = map->capacity - 1;
    for (size_t s = next_slot(map, hole); map->slots[s]; s = next_slot(map, s)) {
        size_t home = slot_of(map, rvx_row_id(rows, map->slots[s] - 1));
        if (((s - home) & mask) < ((s - hole) & mask)) continue;
        map->slots[hole] = map->slots[s];
        hole = s;
    }
    map->slots[hole] = 0;
    map->n--;
}

/* Ids that strictly ascend are at least as far from the first and the last one as
 * their rows are, which leaves one place where there are no gaps. */
static size_t search_ascending(const rvx_rows *rows, uint64_t id) {
    if (rows->n == 0) return RVX_NO_ROW;
    uint64_t first = rvx_row_id(rows, 0), last = rvx_row_id(rows, rows->n - 1);
    if (id < first || id > last) return RVX_NO_ROW;
    size_t low = 0, high = rows->n;
    if (id - first < high) high = (size_t)(id - first) + 1;
    if (last - id < rows->n) low = rows->n - 1 - (size_t)(last - id);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rvx_row_id(rows, middle) < id)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < rows->n && rvx_row_id(rows, low) == id && rvx_row_live(rows, low);
    return found ? low : RVX_NO_ROW;
}

size_t rvx_row_of_id(const rvx_idmap *map, const rvx_rows *rows, uint64_t id) {
    if (!map->slots) return search_ascending(rows, id);
    uint32_t entry = map->slots[find_slot(map, rows, id)];
    return entry ? entry - 1 : RVX_NO_ROW;
}

static rv_status check_distinct(const uint64_t *ids, size_t n, rv_error *err) {
    /* The rows' own table, over a one-column row store made of the array itself. */
    rvx_rows view = {.n = n, .n_live = n};
    view.column[RVX_IDS] = (rvx_column){
        .data = (uint8_t *)(uintptr_t)ids, .width = sizeof *ids, .stride = sizeof *ids};
    rvx_idmap map;
    RVB_TRY(table_alloc(n + n / 2, &map, err));
    size_t twin = insert_rows(&map, &view, 0, n);
    rvx_idmap_clear(&map);
    if (twin == n) return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_DUPLICATE, 0, ids[twin],
                            "id %llu stands twice in this call; pass each id once",
                            (unsigned long long)ids[twin]);
}

rv_status rvx_ids_check(const uint64_t *ids, size_t n, bool repeated, bool *ascending,
                        rv_error *err) {
    *ascending = true;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == RV_NO_ID)
            return rvb_fail_numbers(
                err, RV_ERR_ARGUMENT, 0, ids[i],
                "id 2^64-1 (row %zu) is reserved for empty result places; "
                "use another",
                i);
        if (i && ids[i] <= ids[i - 1]) *ascending = false;
    }
    return *ascending || repeated ? RV_OK : check_distinct(ids, n, err);
}
