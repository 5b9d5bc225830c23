/*
 * lake.c - life of a lake, and the bundles it publishes and compares.
 */
#include "lake/lake_i.h"

#include <errno.h>

#define MAX_RERANK_FACTOR 1024u

static rv_status take_options(const rv_lake_options *given, rv_lake_options *o,
                              rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_lake_options, RV_LAKE_OPTIONS_0_1_0_SIZE, RV_LAKE_DEFAULT);
    RVB_TRY(rvb_take_options(&type, given, o, err));
    if (o->rerank_factor < 1 || o->rerank_factor > MAX_RERANK_FACTOR)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, MAX_RERANK_FACTOR, o->rerank_factor,
                                "rerank_factor must be 1..%u, got %u", MAX_RERANK_FACTOR,
                                o->rerank_factor);
    if ((unsigned)o->consistency > RV_STALE)
        return rvb_fail(err, RV_ERR_ARGUMENT, "unknown consistency %d",
                        (int)o->consistency);
    return RV_OK;
}

rv_status rv_lake_new(const rv_lake_options *options, rv_lake **out, rv_error *err) {
    rv_lake_options o = RV_LAKE_DEFAULT;
    *out = NULL;
    RVB_TRY(take_options(options, &o, err));
    rv_lake *lake = rvb_alloc_zero(1, sizeof *lake);
    if (!lake) return rvb_fail_memory(err, sizeof *lake);
    lake->options = o;
    atomic_init(&lake->owners, 1);
    rvl_keys_init(lake);
    rvl_table_init(&lake->entries);
    rvl_table_init(&lake->backends_by_id);
    lake->state = rvb_rwlock_create();
    if (!lake->state || rvl_loads_init(lake) != 0) {
        rvb_rwlock_free(lake->state);
        rvb_free(lake);
        return rvb_fail_memory(err, sizeof *lake);
    }
    *out = lake;
    return RV_OK;
}

rv_lake *rvl_lake_retain(rv_lake *lake) {
    atomic_fetch_add(&lake->owners, 1);
    return lake;
}

void rv_lake_free(rv_lake *lake) {
    if (!lake || atomic_fetch_sub(&lake->owners, 1) != 1) return;
    rvl_keys_clear(lake);
    rvl_entries_clear(lake);
    for (size_t i = 0; i < lake->n_backends; i++) {
        rv_backend_free(lake->backends[i]->backend);
        rvb_free(lake->backends[i]);
    }
    rvb_free(lake->backends);
    rvl_table_clear(&lake->backends_by_id);
    rvl_loads_clear(lake);
    rvb_rwlock_free(lake->state);
    rvb_free(lake);
}

/* ---- bundles ------------------------------------------------------------------------
 */

rv_status rvl_present_bundle(rv_lake *lake, const rvl_key *key, rv_bundle **out,
                             rv_error *err) {
    rv_backend *backend = rvl_backend(lake, key->backend);
    if (!backend) return rvl_unknown_backend(key->backend, err);
    return rv_backend_bundle(backend, key->collection, lake->options.rotation_seed,
                             lake->options.rerank_factor, out, err);
}

rv_status rv_lake_publish(rv_lake *lake, rv_key name, const char *directory,
                          const rv_tags *tags, rv_witness out, rv_error *err) {
    rvl_key *key;
    rv_bundle *bundle;
    RVB_TRY(rvl_resolve(lake, name, &key, err));
    RVB_TRY(rvl_present_bundle(lake, key, &bundle, err));
    rv_bundle tagged = *bundle;
    if (tags) {
        tagged.pii_policy = tags->pii_policy;
        tagged.lineage_id = tags->lineage_id;
        tagged.memory_class = tags->memory_class;
    }
    rv_status status = rv_bundle_write(&tagged, directory, err);
    if (status == RV_OK) rv_bundle_compute_witness(bundle, out);
    rv_bundle_free(bundle);
    return status;
}

rv_status rv_lake_refresh(rv_lake *lake, rv_key name, const char *directory,
                          rv_refresh *out, rv_error *err) {
    rv_error why = {0};
    rv_bundle *bundle;
    rv_status status = rv_bundle_read(directory, &bundle, &why);
    if (status == RV_ERR_IO && why.os_errno == ENOENT) {
        *out = RV_BUNDLE_MISSING;
        return RV_OK;
    }
    if (status != RV_OK) {
        if (err) *err = why;
        return status;
    }
    rv_entry_info entry = RV_ENTRY_INFO_DEFAULT;
    *out = RV_UP_TO_DATE;
    if (rv_lake_get_entry(lake, name, &entry, NULL) == RV_OK &&
        memcmp(entry.witness, bundle->witness.data, RV_WITNESS_CHARS) != 0) {
        rv_lake_invalidate(lake, name);
        *out = RV_INVALIDATED;
    }
    rv_bundle_free(bundle);
    return RV_OK;
}
