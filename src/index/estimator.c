/*
 * estimator.c - how far estimates from codes are off, as standard deviations
 * (arXiv:2405.12497, theorem 3.2).
 */
#include "index/index_i.h"

#include <math.h>

#define CODE_VARIANCE 0.09084505695 /* (1 - 2/pi) / 4 */

float rvx_estimator_stddev(size_t padded, float distance, float query_error) {
    double d = distance, e = query_error, n = (double)padded;
    return (float)sqrt(CODE_VARIANCE * d * d * n / (n - 1) + 0.25 * e * e);
}

/* 2 |r| sqrt((1 - k^2) / k^2) / sqrt(D - 1) with k the cosine of y and r. */
double rvx_ex_estimator_stddev(size_t padded, double norm2, const rvk_levels *level) {
    double cosine2 = (double)level->dot * level->dot / (norm2 * (double)level->norm2);
    double sine2 = cosine2 < 1 ? 1 - cosine2 : 0;
    return 2 * sqrt(norm2 * sine2 / (cosine2 * (double)(padded - 1)));
}
