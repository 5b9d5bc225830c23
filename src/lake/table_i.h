/*
 * table_i.h - records found by a hash: buckets of links that lie in the records.
 *
 * Names and witnesses come from strangers, as many as they like. So hashes are made with
 * a key that only the table has, and there are at least as many buckets as records, but
 * that adding never fails: without memory for more, those that are there have to do. Not
 * locked.
 */
#ifndef RVL_TABLE_I_H
#define RVL_TABLE_I_H

#include <stddef.h>

#include "base/hash.h"

typedef struct rvl_link {
    struct rvl_link *next; /* in its bucket */
    uint64_t hash;
} rvl_link;

typedef struct rvl_table {
    rvb_hash_key key;
    rvl_link **bucket;   /* NULL: `only` is the one there is */
    size_t n_buckets, n; /* a power of two; links */
    rvl_link *only;
} rvl_table;

/* The record that a link is a member of. */
#define RVL_RECORD(link, type, member)                                                   \
    ((type *)(void *)((char *)(link)-offsetof(type, member)))

void rvl_table_init(rvl_table *table);
/* Not the records. */
void rvl_table_clear(rvl_table *table);
uint64_t rvl_table_hash(const rvl_table *table, const char *text);
/* A link with this hash, and another one after that; NULL if there is none. */
rvl_link *rvl_table_first(const rvl_table *table, uint64_t hash);
rvl_link *rvl_table_next(const rvl_link *link);
void rvl_table_add(rvl_table *table, rvl_link *link, uint64_t hash);
void rvl_table_remove(rvl_table *table, rvl_link *link);
/* In no order. */
void rvl_table_each(const rvl_table *table, void (*each)(rvl_link *link));
/* No links, but all the buckets. Frees nothing. */
void rvl_table_forget(rvl_table *table);

#endif
