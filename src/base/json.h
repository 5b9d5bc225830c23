/*
 * json.h - reads JSON (RFC 8259) token by token, out of memory the caller owns and
 * without allocating. Strict: UTF-8 throughout, no lone surrogates, nothing after the
 * value. Nesting is bounded and costs no stack.
 *
 *   rvb_json j;
 *   rvb_json_token t;
 *   rvb_json_init(&j, text, size);
 *   while (rvb_json_next(&j, &t) && t.kind != RVB_JSON_END) use(&t);
 *   if (j.error) complain(j.error, j.at);
 */
#ifndef RVB_JSON_H
#define RVB_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RVB_JSON_DEPTH 128u /* objects and arrays inside each other */

typedef enum rvb_json_kind {
    RVB_JSON_END, /* of the text */
    RVB_JSON_OBJECT,
    RVB_JSON_OBJECT_END,
    RVB_JSON_ARRAY,
    RVB_JSON_ARRAY_END,
    RVB_JSON_KEY,
    RVB_JSON_STRING,
    RVB_JSON_NUMBER,
    RVB_JSON_TRUE,
    RVB_JSON_FALSE,
    RVB_JSON_NULL
} rvb_json_kind;

typedef struct rvb_json_token {
    rvb_json_kind kind;
    const char *raw; /* as it stands in the text, without quotes */
    size_t raw_size;
    size_t size; /* of a key or string: bytes once decoded, at most raw_size */
} rvb_json_token;

typedef struct rvb_json {
    const char *text;
    size_t size, at;   /* at: bytes read; after an error, where it was noticed */
    const char *error; /* what is wrong; NULL while nothing is */
    unsigned depth;
    unsigned char expect;
    bool in_object[RVB_JSON_DEPTH];
} rvb_json;

void rvb_json_init(rvb_json *j, const char *text, size_t size);
/* The next token. False, for good, once the text turned out not to be JSON. */
bool rvb_json_next(rvb_json *j, rvb_json_token *out);
/* Reads past one value, with all that is in it. */
bool rvb_json_skip(rvb_json *j);

/* Writes the t->size bytes of a key or string, which may hold zeros. */
void rvb_json_decode(const rvb_json_token *t, char *out);
/* Whether a key or string says `text`. */
bool rvb_json_equals(const rvb_json_token *t, const char *text);
/* Whether the token is an integer in plain digits that fits. */
bool rvb_json_u64(const rvb_json_token *t, uint64_t *out);

/* Bytes of the UTF-8 character at `text`: 1 to 4, or 0 if there is no valid one. */
size_t rvb_utf8_size(const char *text, size_t size);
bool rvb_utf8_valid(const char *text, size_t size);

#endif
