/*
 * file_i.h - the numbers of the file format, shared by writer and reader.
 * docs/format.md describes it in full.
 */
#ifndef RVX_FILE_I_H
#define RVX_FILE_I_H

#include "index/index_i.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "files are read in place: a big-endian machine would need byte swapping"
#endif

#define RVX_HEADER_BYTES 32u
#define RVX_V1_MAGIC "rbpx0001"
#define RVX_V1_MAX_ROWS 100000000u
#define RVX_V1_RERANK 20u /* written for readers that know no bound-based rerank */
#define RVX_NATIVE_MAGIC "rvxi0001"

#define RVX_BLOCK_MAGIC "RVXBLOCK"
#define RVX_BLOCK_VERSION 1u
#define RVX_BLOCK_BYTES 128u
#define RVX_SECTION_BYTES 24u
#define RVX_ALIGN 64u

#define RVX_END_MAGIC "RVXBEND1"
#define RVX_TRAILER_BYTES 40u /* digest, end magic */

enum { /* flags of the block */
       RVX_FLAG_CODES = 1,
       RVX_FLAG_VECTORS = 2,
       RVX_FLAG_V1_RECORDS = 4, /* the vectors are those of the v1 records */
       RVX_FLAG_TRAINED = 8,
       RVX_FLAG_HALVES = 16, /* the vectors are binary16 */
       RVX_FLAG_END = 32     /* not a flag */
};

/* Section tags: the row columns by their number plus one, then the rest. */
enum {
    RVX_SECTION_MEAN = RVX_N_COLUMNS + 1,
    RVX_SECTION_CENTROIDS,
    RVX_SECTION_NOTE,  /* the caller's own bytes */
    RVX_SECTION_REACH, /* spread of each list, then the reaches */
    RVX_SECTION_END    /* not a section */
};

static inline uint64_t rvx_align(uint64_t offset) {
    return (offset + RVX_ALIGN - 1) / RVX_ALIGN * RVX_ALIGN;
}
static inline size_t rvx_v1_record(uint32_t dim) {
    return sizeof(uint32_t) + (size_t)dim * sizeof(float);
}

#endif
