/*
 * ruvec1.h - files of vectors with ids. All numbers are little-endian:
 *
 *   0   8 bytes  "ruvec1", two zero bytes
 *   8   u64      count
 *   16  u32      dim
 *   20  u32      0
 *   24           count records: id u64, dim x float32
 *
 * Bytes behind the last record are ignored.
 */
#ifndef RVL_RUVEC1_H
#define RVL_RUVEC1_H

#include "base/base.h"

#define RVL_RUVEC1_HEADER 24u

typedef struct rvl_ruvec1 {
    uint64_t count;
    uint32_t dim;
    uint32_t reserved;
} rvl_ruvec1;

/* Reads the header, which is the start of the file; checks what it is and its dim.
 * Messages begin with `call`. */
rv_status rvl_ruvec1_header(const rvb_input *in, const char *call, rvl_ruvec1 *out,
                            rv_error *err) RVB_MUST_CHECK;
/* That a file of this size can hold what its header says, and that it is not too much. */
rv_status rvl_ruvec1_check(const rvl_ruvec1 *header, uint64_t file_size, const char *call,
                           rv_error *err) RVB_MUST_CHECK;
/* Reads the records that follow the header; room for count ids and count x dim. */
rv_status rvl_ruvec1_read(const rvb_input *in, const rvl_ruvec1 *header, uint64_t *ids,
                          float *vectors, rv_error *err) RVB_MUST_CHECK;
/* Replaces the file, or the symbolic link, at `path`. */
rv_status rvl_ruvec1_write(const char *path, const float *vectors, uint32_t dim,
                           const uint64_t *ids, uint64_t n, rv_error *err) RVB_MUST_CHECK;

#endif
