/*
 * upkeep.c - what keeps an index in shape: the memory of removed rows is given back, and
 * an index that has grown much is trained anew.
 */
#include "index/index_i.h"

/* Live rows, as a multiple of those trained on, from which on an index with codes and
 * vectors computes mean and centroids anew; and how many there have to be. */
#define RETRAIN_GROWTH 4u
#define RETRAIN_ROWS 256u
/* Removed rows that lead to a vacuum: at least this many, and more than live ones. */
#define AUTO_VACUUM_ROWS 1024u

static rv_status vacuum(rv_index *index, rv_error *err) {
    rvx_rows compact, old;
    rvx_idmap map, old_map;
    if (index->rows.n == index->rows.n_live) return RV_OK;
    RVB_TRY(rvx_rows_compact(&index->rows, &compact, err));
    rv_status status = rvx_rows_check(&index->rows, err);
    compact.ids_ascending = true;
    for (size_t row = 1; row < compact.n && compact.ids_ascending; row++)
        compact.ids_ascending = rvx_row_id(&compact, row - 1) < rvx_row_id(&compact, row);
    if (status == RV_OK)
        status = rvx_idmap_build(&compact, 0, !compact.ids_ascending, &map, err);
    if (status != RV_OK) {
        rvx_rows_clear(&compact);
        return status;
    }
    rvb_mutex_lock(index->making);
    rvb_rwlock_write_lock(index->state);
    index->changes = rvx_next_change();
    old = index->rows;
    old_map = index->ids;
    index->rows = compact;
    index->ids = map;
    rvx_lists_clear(&index->lists);
    rvb_rwlock_write_unlock(index->state);
    rvb_mutex_unlock(index->making);
    rvx_rows_clear(&old);
    rvx_idmap_clear(&old_map);
    return RV_OK;
}

void rvx_tidy(rv_index *index) {
    const rvx_rows *rows = &index->rows;
    size_t dead = rows->n - rows->n_live;
    if (dead >= AUTO_VACUUM_ROWS && dead > rows->n_live) (void)vacuum(index, NULL);
    if (index->has_codes && index->has_vectors && rows->n_live >= RETRAIN_ROWS &&
        rows->n_live / RETRAIN_GROWTH >= index->quantizer->trained_on)
        (void)rvx_retrain(index, NULL, NULL);
}

rv_status rv_index_vacuum(rv_index *index, rv_error *err) {
    RVB_TRY(rvx_writer_lock(index, err));
    rv_status status = vacuum(index, err);
    rvx_writer_unlock(index);
    return status;
}
