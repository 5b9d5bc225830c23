/* bundle_i.h - what bundle.c uses of bundle_text.c beside the public functions. */
#ifndef RVL_BUNDLE_I_H
#define RVL_BUNDLE_I_H

#include "lake/source_i.h"

/* The texts of a bundle. */
#define RVL_BUNDLE_TEXTS 6u
rv_text *rvl_bundle_text(rv_bundle *b, size_t i);
/* A bundle with the same numbers and room for texts of the same sizes, each with a 0
 * behind it. NULL when the memory, *bytes, is not to be had. */
rv_bundle *rvl_bundle_alloc(const rv_bundle *sizes, size_t *bytes);

#endif
