/* table.c - the tables of table_i.h. */
#include "lake/table_i.h"

#include "base/base.h"

#define FIRST_BUCKETS 64u

void rvl_table_init(rvl_table *t) {
    *t = (rvl_table){.key = rvb_hash_key_draw(), .n_buckets = 1};
}

void rvl_table_clear(rvl_table *t) {
    rvb_free(t->bucket);
    *t = (rvl_table){.key = t->key, .n_buckets = 1};
}

uint64_t rvl_table_hash(const rvl_table *t, const char *text) {
    return rvb_hash_bytes(&t->key, text, strlen(text));
}

static rvl_link **place_of(const rvl_table *t, uint64_t hash) {
    rvl_table *own = (rvl_table *)(uintptr_t)t;
    return t->bucket ? &t->bucket[hash & (t->n_buckets - 1)] : &own->only;
}

static rvl_link *with_hash(rvl_link *link, uint64_t hash) {
    while (link && link->hash != hash) link = link->next;
    return link;
}

rvl_link *rvl_table_first(const rvl_table *t, uint64_t hash) {
    return with_hash(*place_of(t, hash), hash);
}

rvl_link *rvl_table_next(const rvl_link *link) {
    return with_hash(link->next, link->hash);
}

static void put(rvl_table *t, rvl_link *link) {
    rvl_link **place = place_of(t, link->hash);
    link->next = *place;
    *place = link;
}

static void put_all(rvl_table *t, rvl_link *link) {
    while (link) {
        rvl_link *next = link->next;
        put(t, link);
        link = next;
    }
}

/* A bucket for each link. */
static void grow(rvl_table *t) {
    rvl_table wider = *t;
    wider.n_buckets = t->bucket ? 2 * t->n_buckets : FIRST_BUCKETS;
    wider.bucket = rvb_alloc_zero(wider.n_buckets, sizeof(rvl_link *));
    if (!wider.bucket) return;
    put_all(&wider, t->only);
    wider.only = NULL;
    for (size_t i = 0; t->bucket && i < t->n_buckets; i++) put_all(&wider, t->bucket[i]);
    rvb_free(t->bucket);
    *t = wider;
}

void rvl_table_add(rvl_table *t, rvl_link *link, uint64_t hash) {
    if (t->n >= t->n_buckets) grow(t);
    link->hash = hash;
    put(t, link);
    t->n++;
}

void rvl_table_remove(rvl_table *t, rvl_link *link) {
    rvl_link **place = place_of(t, link->hash);
    while (*place != link) place = &(*place)->next;
    *place = link->next;
    t->n--;
}

void rvl_table_each(const rvl_table *t, void (*each)(rvl_link *link)) {
    for (size_t i = 0; i < t->n_buckets; i++)
        for (rvl_link *link = *place_of(t, i); link; link = link->next) each(link);
}

void rvl_table_forget(rvl_table *t) {
    for (size_t i = 0; i < t->n_buckets; i++) *place_of(t, i) = NULL;
    t->n = 0;
}
