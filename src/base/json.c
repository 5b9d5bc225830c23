/* json.c - a pull parser: what may come next is a state and a stack of flags. */
#include "base/json.h"

#include <string.h>

enum {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after [ */
    EXPECT_KEY_OR_END,   /* after { */
    EXPECT_KEY,
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING
};

void rvb_json_init(rvb_json *j, const char *text, size_t size) {
    *j = (rvb_json){.text = text, .size = size, .expect = EXPECT_VALUE};
}

static bool fail(rvb_json *j, const char *error) {
    if (!j->error) j->error = error;
    return false;
}

/* ---- characters ----------------------------------------------------------------- */

static bool continues(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)text[i] & 0xC0u) != 0x80u) return false;
    return true;
}

/* The table of well-formed sequences: Unicode Standard, table 3-7. */
size_t rvb_utf8_size(const char *text, size_t size) {
    if (size == 0) return 0;
    unsigned char first = (unsigned char)text[0];
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    size_t n = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (size < n || !continues(text + 1, n - 1)) return 0;
    unsigned char second = (unsigned char)text[1];
    if (first == 0xE0 && second < 0xA0) return 0; /* longer than needed */
    if (first == 0xED && second > 0x9F) return 0; /* a surrogate */
    if (first == 0xF0 && second < 0x90) return 0; /* longer than needed */
    if (first == 0xF4 && second > 0x8F) return 0; /* beyond U+10FFFF */
    return n;
}

bool rvb_utf8_valid(const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        size_t n = rvb_utf8_size(text + at, size - at);
        if (n == 0) return false;
        at += n;
    }
    return true;
}

static size_t encode(unsigned long code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* The number of "uXXXX" at `text`; false if it is something else. */
static bool hex_code(const char *text, size_t size, unsigned long *code) {
    if (size < 5 || text[0] != 'u') return false;
    *code = 0;
    for (int i = 1; i < 5; i++) {
        char c = text[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            digit = (unsigned)(c - 'A') + 10;
        else
            return false;
        *code = *code << 4 | digit;
    }
    return true;
}

/* One character of a string, at a backslash or not: bytes read, 0 with *error set if it
 * is not allowed there; *n bytes go to `out`. */
static size_t decode_one(const char *text, size_t size, char out[4], size_t *n,
                         const char **error) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (text[0] != '\\') {
        *n = rvb_utf8_size(text, size);
        if (*n == 0) *error = "invalid UTF-8";
        if ((unsigned char)text[0] < 0x20) {
            *error = "a control character in a string";
            return 0;
        }
        memcpy(out, text, *n);
        return *n;
    }
    const char *escape = size > 1 && text[1] ? strchr(from, text[1]) : NULL;
    if (escape) {
        out[0] = to[escape - from];
        *n = 1;
        return 2;
    }
    unsigned long code, low;
    if (!hex_code(text + 1, size - 1, &code)) {
        *error = "an unknown escape in a string";
        return 0;
    }
    size_t read = 6;
    if (code >= 0xD800 && code < 0xE000) {
        if (code >= 0xDC00 || size < 7 || text[6] != '\\' ||
            !hex_code(text + 7, size - 7, &low) || low < 0xDC00 || low >= 0xE000) {
            *error = "a lone surrogate in a string";
            return 0;
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        read = 12;
    }
    *n = encode(code, out);
    return read;
}

/* ---- scalars -------------------------------------------------------------------- */

static bool read_string(rvb_json *j, rvb_json_token *out) {
    const char *error = NULL;
    char ignored[4];
    size_t n;
    j->at++;
    out->raw = j->text + j->at;
    out->size = 0;
    while (j->at < j->size && j->text[j->at] != '"') {
        size_t read = decode_one(j->text + j->at, j->size - j->at, ignored, &n, &error);
        if (read == 0) return fail(j, error);
        j->at += read;
        out->size += n;
    }
    if (j->at == j->size) return fail(j, "a string without an end");
    out->raw_size = (size_t)(j->text + j->at - out->raw);
    j->at++;
    return true;
}

static bool is_digit(const rvb_json *j) {
    return j->at < j->size && j->text[j->at] >= '0' && j->text[j->at] <= '9';
}

static bool take(rvb_json *j, const char *any) {
    if (j->at == j->size || !j->text[j->at] || !strchr(any, j->text[j->at])) return false;
    j->at++;
    return true;
}

static bool read_digits(rvb_json *j) {
    if (!is_digit(j)) return fail(j, "a number without digits");
    while (is_digit(j)) j->at++;
    return true;
}

static bool read_number(rvb_json *j, rvb_json_token *out) {
    out->raw = j->text + j->at;
    (void)take(j, "-");
    if (!take(j, "0") && !read_digits(j)) return false;
    if (is_digit(j)) return fail(j, "a number with a leading zero");
    if (take(j, ".") && !read_digits(j)) return false;
    if (take(j, "eE")) {
        (void)take(j, "+-");
        if (!read_digits(j)) return false;
    }
    out->raw_size = (size_t)(j->text + j->at - out->raw);
    return true;
}

static bool read_word(rvb_json *j, const char *word, rvb_json_token *out) {
    out->raw = j->text + j->at;
    out->raw_size = strlen(word);
    if (j->size - j->at < out->raw_size || memcmp(out->raw, word, out->raw_size) != 0)
        return fail(j, "an unknown word");
    j->at += out->raw_size;
    return true;
}

/* ---- structure ------------------------------------------------------------------ */

static void after_value(rvb_json *j) {
    j->expect = j->depth ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
}

static bool open(rvb_json *j, bool object) {
    if (j->depth == RVB_JSON_DEPTH) return fail(j, "too many levels of nesting");
    j->at++;
    j->in_object[j->depth++] = object;
    j->expect = object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return true;
}

static bool close(rvb_json *j, rvb_json_token *out) {
    j->at++;
    j->depth--;
    out->kind = j->in_object[j->depth] ? RVB_JSON_OBJECT_END : RVB_JSON_ARRAY_END;
    after_value(j);
    return true;
}

static bool read_value(rvb_json *j, rvb_json_token *out) {
    bool ok;
    switch (j->text[j->at]) {
    case '{':
        out->kind = RVB_JSON_OBJECT;
        return open(j, true);
    case '[':
        out->kind = RVB_JSON_ARRAY;
        return open(j, false);
    case '"':
        out->kind = RVB_JSON_STRING;
        ok = read_string(j, out);
        break;
    case 't':
        out->kind = RVB_JSON_TRUE;
        ok = read_word(j, "true", out);
        break;
    case 'f':
        out->kind = RVB_JSON_FALSE;
        ok = read_word(j, "false", out);
        break;
    case 'n':
        out->kind = RVB_JSON_NULL;
        ok = read_word(j, "null", out);
        break;
    default:
        if (j->text[j->at] != '-' && !is_digit(j)) return fail(j, "no value");
        out->kind = RVB_JSON_NUMBER;
        ok = read_number(j, out);
    }
    after_value(j);
    return ok;
}

static bool read_key(rvb_json *j, rvb_json_token *out) {
    if (j->text[j->at] != '"') return fail(j, "no key");
    out->kind = RVB_JSON_KEY;
    j->expect = EXPECT_VALUE;
    return read_string(j, out);
}

static void skip_space(rvb_json *j) {
    while (take(j, " \t\n\r")) continue;
}

/* What stands between the last token and the next. False, perhaps with an error, if
 * there is none. */
static bool find_next(rvb_json *j, rvb_json_token *out) {
    skip_space(j);
    if (j->expect == EXPECT_NOTHING) {
        if (j->at < j->size) return fail(j, "more text after the value");
        out->kind = RVB_JSON_END;
        return true;
    }
    if (j->expect == EXPECT_VALUE && j->depth && j->in_object[j->depth - 1]) {
        if (!take(j, ":")) return fail(j, "no ':' after a key");
        skip_space(j);
    } else if (j->expect == EXPECT_COMMA_OR_END && take(j, ",")) {
        j->expect = j->in_object[j->depth - 1] ? EXPECT_KEY : EXPECT_VALUE;
        skip_space(j);
    }
    return j->at < j->size || fail(j, "the text ends early");
}

bool rvb_json_next(rvb_json *j, rvb_json_token *out) {
    *out = (rvb_json_token){.kind = RVB_JSON_NULL};
    if (j->error || !find_next(j, out)) return false;
    if (out->kind == RVB_JSON_END) return true;
    bool in_object = j->depth && j->in_object[j->depth - 1];
    bool ends = j->depth && j->text[j->at] == (in_object ? '}' : ']');
    switch (j->expect) {
    case EXPECT_KEY_OR_END:
        return ends ? close(j, out) : read_key(j, out);
    case EXPECT_KEY:
        return read_key(j, out);
    case EXPECT_VALUE_OR_END:
        return ends ? close(j, out) : read_value(j, out);
    case EXPECT_COMMA_OR_END:
        return ends ? close(j, out) : fail(j, "no ',' between values");
    default:
        return read_value(j, out);
    }
}

bool rvb_json_skip(rvb_json *j) {
    rvb_json_token t;
    unsigned depth = j->depth;
    do {
        if (!rvb_json_next(j, &t)) return false;
    } while (j->depth > depth);
    return true;
}

/* ---- values of tokens ----------------------------------------------------------- */

void rvb_json_decode(const rvb_json_token *t, char *out) {
    const char *error;
    char one[4];
    size_t n = 0;
    for (size_t at = 0; at < t->raw_size; out += n) {
        at += decode_one(t->raw + at, t->raw_size - at, one, &n, &error);
        memcpy(out, one, n);
    }
}

bool rvb_json_equals(const rvb_json_token *t, const char *text) {
    const char *error;
    char one[4];
    size_t n = 0;
    if (t->size != strlen(text)) return false;
    for (size_t at = 0; at < t->raw_size; text += n) {
        at += decode_one(t->raw + at, t->raw_size - at, one, &n, &error);
        if (memcmp(text, one, n) != 0) return false;
    }
    return true;
}

bool rvb_json_u64(const rvb_json_token *t, uint64_t *out) {
    if (t->kind != RVB_JSON_NUMBER) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < t->raw_size; i++) {
        if (t->raw[i] < '0' || t->raw[i] > '9') return false;
        unsigned digit = (unsigned)(t->raw[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}
