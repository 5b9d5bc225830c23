/* names.c - collections by name: an array kept in order. */
#include "lake/source_i.h"

/* Where the name is, or would have to go. */
static size_t place(const rvl_names *names, const char *name, bool *found) {
    size_t low = 0, high = names->n;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(names->records[middle]->name, name);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void *rvl_names_find(const rvl_names *names, const char *name) {
    bool found;
    size_t i = place(names, name, &found);
    return found ? names->records[i] : NULL;
}

static size_t bytes_of(size_t n) { return n * sizeof(rvl_named *); }

rv_status rvl_names_reserve(rvl_names *names, rv_error *err) {
    size_t needed = names->n + names->promised + 1;
    if (needed > names->capacity) {
        size_t capacity = 2 * needed;
        rvl_named **records = rvb_alloc(capacity, sizeof *records);
        if (!records) return rvb_fail_memory(err, bytes_of(capacity));
        if (names->n) memcpy(records, names->records, bytes_of(names->n));
        rvb_free(names->records);
        names->records = records;
        names->capacity = capacity;
    }
    names->promised++;
    return RV_OK;
}

void rvl_names_add(rvl_names *names, void *record) {
    bool found;
    size_t i = place(names, ((rvl_named *)record)->name, &found);
    memmove(names->records + i + 1, names->records + i, bytes_of(names->n - i));
    names->records[i] = record;
    names->n++;
    names->promised--;
}

void rvl_names_cancel(rvl_names *names) { names->promised--; }

rv_status rvl_names_each(const rvl_names *names, rvb_rwlock *lock,
                         rv_status (*each)(void *ctx, const char *name, rv_error *err),
                         void *ctx, rv_error *err) {
    rvb_rwlock_read_lock(lock);
    const size_t n = names->n;
    rvl_named **records = rvb_alloc(n, sizeof *records);
    if (records && n) memcpy(records, names->records, bytes_of(n));
    rvb_rwlock_read_unlock(lock);
    if (!records) return rvb_fail_memory(err, bytes_of(n));
    rv_status status = RV_OK;
    for (size_t i = 0; status == RV_OK && i < n; i++)
        status = each(ctx, records[i]->name, err);
    rvb_free(records);
    return status;
}
