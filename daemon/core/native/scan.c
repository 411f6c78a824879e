/* The fast path: many JSON records in, exact columns out, and a mark on each record that it refuses.
 *
 * It reads the spellings that APIs use and refuses all others; the reference parser, which is the authority, reads those. So it
 * may refuse anything, but what it accepts it must read exactly as reference.py and values.py do. A rule of theirs is only named
 * here. A property test and a fuzzer compare both parsers.
 *
 * The end of the text: the blob must be followed by a NUL byte, as a Python bytes object is. No loop goes past a NUL, so nothing
 * beyond the blob is read. Code that reads many bytes at once first checks that they are there (`has`), and leaves the last bytes
 * of a blob to code that reads byte by byte.
 *
 * The end of a record: white space is only skipped up to it (`space`). No other token holds a line end, and what follows a record
 * in its blob is a line end, other white space, or a divider that ends any token. So no record makes this read the next ones, and
 * the time is linear in the text. tests/core/native/test_work.py counts it.
 *
 * Plain C11, no Python: loaded with ctypes, which releases Python's lock during a call.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "code that reads many bytes at once needs the first byte to be the lowest"
#endif

enum { MAX_ID_BYTES = 256, MAX_METADATA_BYTES = 65535, MAX_DEPTH = 512, WHOLE_DIGITS = 14, EPOCH_DIGITS = 15, STEP = 16 };
static const int64_t DECIMAL_LIMIT = 1000000000000000000, SECONDS_FROM = 100000000, MILLISECONDS_FROM = 100000000000;

typedef const uint8_t *Text;

/* ---------------------------------------------------------------------------------------------------------- columns */

/* A column of numbers or of texts. Text i is bytes[offsets[i]] to bytes[offsets[i + 1]]. `valid` is one byte a value. */
typedef struct {
    int64_t *values; /* numbers: the values; texts: the offsets, one more than there are values */
    uint8_t *valid;
    uint8_t *bytes;
    int64_t count, capacity, used, bytes_capacity;
} Column;

/* In the order of bindings.py. */
enum { ORDER_ID, CREATED_AT, UPDATED_AT, USER_ID, AMOUNT, CURRENCY, METADATA, ITEMS, RECORD_COLUMNS };
enum { SKU = RECORD_COLUMNS, QTY, PRICE, COLUMNS };
enum { MAX_EXTRA = 32, ALL_COLUMNS = COLUMNS + MAX_EXTRA }; /* the extra columns of a mapping come after COLUMNS */
enum { SKIPPED = ALL_COLUMNS, DELETED, NO_COLUMN }; /* in the place of a column: skips an item, deletes an order, is not read */
enum { TEXT, DECIMAL, INSTANT, BOOLEAN, KINDS }; /* of extra columns, as in mapping.COLUMN_TYPES */
static const bool is_text[COLUMNS] = {[ORDER_ID] = true, [USER_ID] = true, [CURRENCY] = true, [METADATA] = true, [SKU] = true};

typedef struct Scan Scan;
typedef Text (*Read)(Scan *, Text, int);
typedef struct Key Key;

/* The keys of an object that are read. */
typedef struct {
    const Key *keys;  /* up to 64; the one after the last has the length 0 */
    uint64_t lengths; /* bit n (modulo 64): a key may have n bytes, quotes included */
    int guesses;      /* where those of this table begin, see Scan */
    bool is_order;    /* other keys may hold the data of an order */
    bool has_index;   /* one may be an index of an array */
} Table;

/* A key, and what its value is: a value of a column, or an object (or array) with keys in it, or either of them. */
struct Key {
    Text name;         /* in quotes, with its colon */
    char text[16];     /* its first bytes, and which these are */
    uint64_t masks[2];
    int length, column;
    int rank;          /* of several values of one column, that of the lowest rank counts */
    int kind;          /* of an extra column */
    bool deletes;      /* the value of an extra column also says whether the order is gone */
    bool mapped;       /* see `mapped_value` */
    const Table *inside;
    Read read;
};

/* How a source spells its orders: mapping.FieldMapping, compiled by tables.py. */
typedef struct {
    Table order, item;
    Text prefix;                        /* of each order_id and user_id */
    const int64_t *zone_from, *offsets; /* of local times: `offsets` seconds east of UTC from `zone_from` on, seconds as in UTC */
    const Text *deleted;                /* the values that say that an order is gone, as JSON */
    const int64_t *deleted_lengths;
    int64_t prefix_length, zones, deletions;
    bool minor_units;
    int extra;                          /* the number of extra columns, and the kind of each */
    int kinds[MAX_EXTRA];
} Mapping;

/* A value of a record that counts if none of a lower rank comes. */
typedef struct {
    const Key *key; /* NULL: there is none */
    Text p;
    int64_t depth;
} Second;

struct Scan {
    Column columns[ALL_COLUMNS]; /* ITEMS: the offsets of each record's items; valid unless the record is bare, see `read_record` */
    const Mapping *mapping;
    Text end;           /* of the blob: the NUL byte after it */
    Text stop;          /* of the record, where that is known; else of the blob */
    uint8_t *guesses;   /* see `members` */
    Second second;      /* see `mapped_value` */
    int rank[ALL_COLUMNS]; /* of the record's and the item's values so far; UNRANKED without one */
    int depth;          /* of the value that is read: brackets that are open before it */
    bool others;        /* the record has members that are not read */
    bool skipped;       /* the item is left out */
    bool failed;        /* out of memory */
};
enum { UNRANKED = 1 << 30 };

static bool reserve(void **memory, int64_t *capacity, int64_t wanted, size_t size) {
    if (wanted <= *capacity) return true;
    int64_t larger = *capacity + *capacity / 2 + 256;
    if (larger < wanted) larger = wanted;
    void *moved = realloc(*memory, (size_t)larger * size);
    if (!moved) return false;
    *memory = moved;
    *capacity = larger;
    return true;
}

/* Reserves memory for `count` values and `bytes` bytes of text in all. */
static bool enlarge(Scan *scan, Column *column, int64_t count, int64_t bytes) {
    int64_t capacity = column->capacity;
    if (!reserve((void **)&column->values, &capacity, count + 1, sizeof(int64_t))) return scan->failed = true, false;
    uint8_t *valid = realloc(column->valid, (size_t)capacity);
    if (!valid) return scan->failed = true, false;
    column->valid = valid;
    column->capacity = capacity;
    if (column->count == 0) column->values[0] = 0;
    if (!reserve((void **)&column->bytes, &column->bytes_capacity, bytes, 1)) return scan->failed = true, false;
    return true;
}

/* Reserves memory for one more value and `bytes` more bytes of text. */
static inline bool grow(Scan *scan, Column *column, int64_t bytes) {
    if (column->count + 2 <= column->capacity && column->used + bytes <= column->bytes_capacity) return true;
    return enlarge(scan, column, column->count + 1, column->used + bytes);
}

static inline bool put_number(Scan *scan, int column, int64_t value, bool valid) {
    Column *into = &scan->columns[column];
    if (!grow(scan, into, 0)) return false;
    into->values[into->count] = valid ? value : 0;
    into->valid[into->count++] = valid;
    return true;
}

/* Ends a text whose bytes are written up to `used`. */
static inline void end_text(Column *into, int64_t used, bool valid) {
    into->used = used;
    into->valid[into->count++] = valid;
    into->values[into->count] = used;
}

static inline bool has_texts(const Scan *scan, int column) {
    return column < COLUMNS ? is_text[column] : scan->mapping->kinds[column - COLUMNS] == TEXT;
}

static inline bool is_of_item(int column) { return column >= RECORD_COLUMNS && column < COLUMNS; }

/* The end of the columns in use. */
static inline int columns_end(const Scan *scan) { return COLUMNS + scan->mapping->extra; }

static bool put_null(Scan *scan, int column) {
    Column *into = &scan->columns[column];
    if (!has_texts(scan, column)) return put_number(scan, column, 0, false);
    if (!grow(scan, into, 0)) return false;
    end_text(into, into->used, false);
    return true;
}

/* ---------------------------------------------------------------------------------------------------- the JSON grammar */

/* Each function takes a pointer to the start of a token and returns the pointer after it, or NULL to refuse the record. */

/* Whether `bytes` bytes are left. */
static inline bool has(Text p, Text end, int64_t bytes) { return end - p >= bytes; }

static inline uint64_t eight_bytes(Text p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

#define EACH_BYTE(value) (0x0101010101010101 * (uint64_t)(value))
#define FIRST_BYTES(count) ((count) <= 0 ? 0 : (count) >= 8 ? ~0ULL : (1ULL << (8 * (count) & 63)) - 1)

/* The end of the white space at `p`, but not beyond `stop`: the end of the record, where that is known. */
static inline Text space(Text p, Text stop) {
    if (*p > ' ') return p;
    while (p < stop && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

static bool is_digit(uint8_t byte) { return (uint8_t)(byte - '0') < 10; }

static int hex(uint8_t byte) {
    if (is_digit(byte)) return byte - '0';
    byte |= 32;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The value of four hexadecimal digits; -1 where they are not. */
static int32_t hex4(Text p) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex(p[i]);
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* The next byte of a string that is not plain text: a quote, an escape or a control character. */
static inline Text special(Text p, Text end) {
#ifdef __SSE2__
    for (; has(p, end, 16); p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)p), control = _mm_set1_epi8(31);
        __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), escape = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        int mask = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, escape), _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes)));
        if (mask) return p + __builtin_ctz((unsigned)mask);
    }
#else
    for (; has(p, end, 8); p += 8) { /* a borrow may mark bytes after the first match wrongly, never before */
        uint64_t bytes = eight_bytes(p), quote = bytes ^ EACH_BYTE('"'), escape = bytes ^ EACH_BYTE('\\');
        uint64_t found = ((quote - EACH_BYTE(1)) & ~quote) | ((escape - EACH_BYTE(1)) & ~escape);
        found = (found | ((bytes - EACH_BYTE(32)) & ~bytes)) & EACH_BYTE(0x80);
        if (found) return p + __builtin_ctzll(found) / 8;
    }
#endif
    while (*p >= 32 && *p != '"' && *p != '\\') p++;
    return p;
}

/* A string, from after its opening quote to after its closing one. */
static inline Text string(Text p, Text end, bool *escaped) {
    for (;;) {
        p = special(p, end);
        if (*p == '"') return p + 1;
        if (*p != '\\') return NULL;
        *escaped = true;
        if (p[1] == 'u') {
            if (hex4(p + 2) < 0) return NULL;
            p += 6;
        } else {
            if (!p[1] || !strchr("\"\\/bfnrt", p[1])) return NULL;
            p += 2;
        }
    }
}

/* A number. `fraction`: the pointer after the decimal point, or NULL. */
static Text number(Text p, Text *fraction, bool *exponent) {
    *fraction = NULL;
    *exponent = false;
    if (*p == '-') p++;
    if (*p == '0') p++;
    else if (is_digit(*p)) while (is_digit(*p)) p++;
    else return NULL;
    if (*p == '.') {
        if (!is_digit(*++p)) return NULL;
        *fraction = p;
        while (is_digit(*p)) p++;
    }
    if (*p == 'e' || *p == 'E') {
        *exponent = true;
        p++;
        if (*p == '+' || *p == '-') p++;
        if (!is_digit(*p)) return NULL;
        while (is_digit(*p)) p++;
    }
    return p;
}

static Text literal(Text p, const char *word) {
    while (*word) if (*p++ != (uint8_t)*word++) return NULL;
    return p;
}

/* A string, number or literal. */
static Text scalar(Text p, Text end) {
    Text fraction;
    bool flag = false;
    switch (*p) {
    case '"': return string(p + 1, end, &flag);
    case 't': return literal(p, "true");
    case 'f': return literal(p, "false");
    case 'n': return literal(p, "null");
    default: return number(p, &fraction, &flag);
    }
}

static inline Text beyond_space(Text p, Text stop, bool *any) {
    Text after = space(p, stop);
    *any |= after != p;
    return after;
}

/* Any value inside `depth` open brackets, of a blob up to `end` and a record up to `stop`. `spaced`: whether there is white space
 * between its tokens. */
static Text value(Text p, Text end, Text stop, int depth, bool *spaced) {
    bool object[MAX_DEPTH + 1];
    int open = 0;
    for (;;) {
        if (*p == '{' || *p == '[') {
            if (depth + open >= MAX_DEPTH) return NULL;
            bool is_object = object[open++] = *p == '{';
            p = beyond_space(p + 1, stop, spaced);
            if (*p != (is_object ? '}' : ']')) {
                if (is_object) goto key;
                continue;
            }
        } else {
            p = scalar(p, end);
            if (!p || !open) return p;
            p = beyond_space(p, stop, spaced);
        }
        while (*p == (object[open - 1] ? '}' : ']')) {
            p++;
            if (!--open) return p;
            p = beyond_space(p, stop, spaced);
        }
        if (*p != ',') return NULL;
        p = beyond_space(p + 1, stop, spaced);
        if (!object[open - 1]) continue;
    key:;
        bool escaped = false;
        p = *p == '"' ? string(p + 1, end, &escaped) : NULL;
        if (!p) return NULL;
        p = beyond_space(p, stop, spaced);
        if (*p != ':') return NULL;
        p = beyond_space(p + 1, stop, spaced);
    }
}

/* A value that no column needs. Most are strings. */
static inline Text skipped(const Scan *scan, Text p, int depth) {
    bool flag = false;
    return *p == '"' ? string(p + 1, scan->end, &flag) : value(p, scan->end, scan->stop, depth, &flag);
}

/* Copies a value without the white space between its tokens. */
static uint8_t *compact(Text p, Text stop, uint8_t *out) {
    while (p < stop) {
        if (*p == '"') {
            bool escaped;
            Text after = string(p + 1, stop, &escaped);
            memcpy(out, p, (size_t)(after - p));
            out += after - p;
            p = after;
        } else {
            *out++ = *p++;
        }
        p = space(p, stop);
    }
    return out;
}

static inline bool is_ascii(uint64_t bytes) { return !(bytes & EACH_BYTE(0x80)); }

/* Whether a text is UTF-8: no overlong form, no surrogate, nothing beyond U+10FFFF. */
static bool is_utf8(Text p, Text end) {
    while (p < end) {
        while (has(p, end, 32) && is_ascii(eight_bytes(p) | eight_bytes(p + 8) | eight_bytes(p + 16) | eight_bytes(p + 24))) p += 32;
        while (has(p, end, 8) && is_ascii(eight_bytes(p))) p += 8;
        if (p == end) return true;
        uint8_t first = *p;
        if (first < 0x80) {
            p++;
            continue;
        }
        int more = first >= 0xC2 && first < 0xE0 ? 1 : first >= 0xE0 && first < 0xF0 ? 2 : first >= 0xF0 && first < 0xF5 ? 3 : 0;
        if (!more || end - p <= more) return false;
        uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (p[1] < low || p[1] > high) return false;
        for (int i = 2; i <= more; i++) if ((p[i] & 0xC0) != 0x80) return false;
        p += more + 1;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ the kinds of fields */

static bool is_white(uint8_t byte) { return byte == ' ' || (uint8_t)(byte - 9) <= 4; } /* values.WHITE_SPACE */

static void strip(Text *from, Text *to) {
    while (*from < *to && is_white(**from)) ++*from;
    while (*from < *to && is_white((*to)[-1])) --*to;
}

static uint8_t *utf8_of(int32_t code, uint8_t *out) {
    if (code < 0x80) {
        *out++ = (uint8_t)code;
    } else if (code < 0x800) {
        *out++ = (uint8_t)(0xC0 | code >> 6);
        *out++ = (uint8_t)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *out++ = (uint8_t)(0xE0 | code >> 12);
        *out++ = (uint8_t)(0x80 | (code >> 6 & 63));
        *out++ = (uint8_t)(0x80 | (code & 63));
    } else {
        *out++ = (uint8_t)(0xF0 | code >> 18);
        *out++ = (uint8_t)(0x80 | (code >> 12 & 63));
        *out++ = (uint8_t)(0x80 | (code >> 6 & 63));
        *out++ = (uint8_t)(0x80 | (code & 63));
    }
    return out;
}

/* Writes the text of a string with escapes to `out`; it is never longer than the string. NULL at a lone surrogate. */
static uint8_t *unescaped(Text p, Text end, uint8_t *out) {
    static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
    while (p < end) {
        if (*p != '\\') {
            *out++ = *p++;
        } else if (p[1] == 'u') {
            int32_t code = hex4(p + 2);
            p += 6;
            if (code >= 0xD800 && code < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
                int32_t second = hex4(p + 2);
                if (second < 0xDC00 || second > 0xDFFF) return NULL;
                code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
                p += 6;
            }
            if (code >= 0xD800 && code < 0xE000) return NULL;
            out = utf8_of(code, out);
        } else {
            const char *letter = strchr(letters, p[1]);
            *out++ = letter ? (uint8_t)meant[letter - letters] : p[1];
            p += 2;
        }
    }
    return out;
}

/* Copies a text of the blob in steps of constant length, which compile to no call. `to` has room for one STEP more. */
static inline void copy(uint8_t *to, Text from, int64_t length, Text end) {
    if (has(from, end, length + STEP)) for (int64_t done = 0; done < length; done += STEP) memcpy(to + done, from + done, STEP);
    else memcpy(to, from, (size_t)length);
}

/* values.read_text: a stripped string, or an integer as it is written. */
static Text read_text(Scan *scan, Text p, int column) {
    Column *into = &scan->columns[column];
    if (*p != '"') {
        Text fraction, end;
        bool exponent;
        if (*p == 'n') return (end = literal(p, "null")) && put_null(scan, column) ? end : NULL;
        end = number(p, &fraction, &exponent);
        if (!end || fraction || exponent || end - p > MAX_ID_BYTES || (p[0] == '-' && p[1] == '0')) return NULL;
        if (!grow(scan, into, end - p)) return NULL;
        memcpy(into->bytes + into->used, p, (size_t)(end - p));
        end_text(into, into->used + (end - p), true);
        return end;
    }
    bool escaped = false;
    Text end = string(p + 1, scan->end, &escaped);
    if (!end || !grow(scan, into, end - p + STEP)) return NULL;
    Text from = p + 1, to = end - 1;
    if (escaped) { /* decoded into the column, and moved there if white space is stripped */
        uint8_t *begin = into->bytes + into->used, *stop = unescaped(from, to, begin);
        if (!stop) return NULL;
        from = begin;
        to = stop;
    }
    strip(&from, &to);
    int64_t length = to - from;
    if (length > MAX_ID_BYTES) return NULL;
    if (escaped) memmove(into->bytes + into->used, from, (size_t)length);
    else copy(into->bytes + into->used, from, length, scan->end);
    end_text(into, into->used + length, length > 0);
    return end;
}

/* A decimal with up to 14 digits before the point and no exponent, in units of 1/10,000, rounded half away from zero. The number
 * must end at `end`. */
static bool decimal(Text p, Text end, int64_t *units) {
    Text fraction;
    bool exponent;
    if (number(p, &fraction, &exponent) != end || exponent) return false;
    bool negative = *p == '-';
    p += negative;
    Text whole_end = fraction ? fraction - 1 : end;
    if (whole_end - p > WHOLE_DIGITS) return false;
    int64_t total = 0;
    for (; p < whole_end; p++) total = total * 10 + (*p - '0');
    for (int i = 0; i < 4; i++) total = total * 10 + (fraction && fraction + i < end ? fraction[i] - '0' : 0);
    if (fraction && end - fraction > 4 && fraction[4] >= '5') total++;
    if (total >= DECIMAL_LIMIT) return false;
    *units = negative ? -total : total;
    return true;
}

/* The number of leading digits in eight bytes. The bytes become the values of the digits. */
static inline int leading_digits(uint64_t *bytes) {
    *bytes ^= EACH_BYTE('0');
    uint64_t others = ((*bytes + EACH_BYTE(0x7F - 9)) | *bytes) & EACH_BYTE(0x80);
    return others ? __builtin_ctzll(others) / 8 : 8;
}

/* The number that eight digits make, the first one in the lowest byte: by pairs, then pairs of pairs, then both of these. */
static inline int64_t eight_digits(uint64_t digits) {
    digits = digits * 10 + (digits >> 8);
    uint64_t odd = digits & 0x000000FF000000FF, even = digits >> 16 & 0x000000FF000000FF; /* the 1st and 3rd pair, the 2nd and 4th */
    return (int64_t)((odd * 0x000F424000000064 + even * 0x0000271000000001) >> 32);
}

/* The number that four digits make. Missing ones count as zero, as they do after a decimal point. */
static inline int64_t four_digits(uint64_t digits) {
    digits = digits * 10 + (digits >> 8);
    return (int64_t)((digits & 255) * 100 + (digits >> 16 & 255));
}

/* `decimal` for up to 7 digits before the point and 4 after it. Returns the pointer after it; NULL for any other number. */
static inline Text short_decimal(Text p, Text end, int64_t *units) {
    if (!has(p, end, 24)) return NULL;
    bool negative = *p == '-';
    p += negative;
    uint64_t whole = eight_bytes(p);
    int count = leading_digits(&whole);
    if (count == 0 || count == 8 || (count > 1 && !(whole & 255))) return NULL;
    int64_t total = eight_digits(whole << (64 - 8 * count)) * 10000;
    p += count;
    if (*p == '.') {
        uint64_t fraction = eight_bytes(p + 1);
        count = leading_digits(&fraction);
        if (count == 0 || count > 4) return NULL;
        total += four_digits(fraction & FIRST_BYTES(count));
        p += count + 1;
    }
    if ((*p | 32) == 'e') return NULL;
    *units = negative ? -total : total;
    return p;
}

/* Not inlined: else the common path would have to save the registers that this uses. */
static __attribute__((noinline)) Text any_decimal(Scan *scan, Text p, int column) {
    Text fraction, end, from = p, to;
    bool flag = false;
    int64_t units;
    if (*p == '"') {
        end = string(p + 1, scan->end, &flag);
        if (!end || flag) return NULL;
        from = p + 1, to = end - 1;
        strip(&from, &to);
        if (from == to) return put_null(scan, column) ? end : NULL;
    } else if (*p == 'n') {
        return (end = literal(p, "null")) && put_null(scan, column) ? end : NULL;
    } else {
        to = end = number(p, &fraction, &flag);
        if (!end) return NULL;
    }
    return decimal(from, to, &units) && put_number(scan, column, units, true) ? end : NULL;
}

/* values.read_decimal: a number, or a text with one. */
static Text read_decimal(Scan *scan, Text p, int column) {
    Column *into = &scan->columns[column];
    bool quoted = *p == '"';
    int64_t units;
    Text end = short_decimal(p + quoted, scan->end, &units);
    if (!end || (quoted && *end != '"') || into->count + 2 > into->capacity) return any_decimal(scan, p, column);
    into->values[into->count] = units;
    into->valid[into->count++] = true;
    return end + quoted;
}

/* `count` digits as a number; false where one is not a digit. */
static bool digits(Text p, int count, int64_t *into) {
    int64_t total = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(p[i])) return false;
        total = total * 10 + (p[i] - '0');
    }
    *into = total;
    return true;
}

static int64_t days_since_1970(int64_t year, int64_t month, int64_t day) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    int64_t last = year - 1;
    return last * 365 + last / 4 - last / 100 + last / 400 + before[month - 1] + (leap && month > 2) + day - 1 - 719162;
}

static bool is_date(int64_t year, int64_t month, int64_t day) {
    static const int length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1 || month < 1 || month > 12 || day < 1) return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= length[month - 1] + (leap && month == 2);
}

typedef struct {
    int64_t year, month, day, hour, minute, second;
} Clock;

/* Whether eight bytes match the pattern `as`, in which 0 is any digit. In `pairs`, byte i is the number of digits i and i + 1. */
static inline bool is_spelled(Text p, const char *as, uint64_t *pairs) {
    uint64_t model, digits = 0;
    memcpy(&model, as, 8);
    for (int i = 0; i < 8; i++) if (as[i] == '0') digits |= (uint64_t)9 << 8 * i;
    uint64_t bytes = eight_bytes(p) ^ model;
    if (((bytes + (EACH_BYTE(0x7F) - digits)) | bytes) & EACH_BYTE(0x80)) return false; /* above 9, or not that byte */
    *pairs = bytes * 10 + (bytes >> 8);
    return true;
}

/* The usual spelling, to the second. */
static inline bool full_clock(Text p, Clock *clock) {
    uint64_t date, time;
    if (!is_spelled(p, "0000-00-", &date) || !digits(p + 8, 2, &clock->day) || (p[10] != 'T' && p[10] != ' ') ||
        !is_spelled(p + 11, "00:00:00", &time))
        return false;
    clock->year = (int64_t)((date & 255) * 100 + (date >> 16 & 255));
    clock->month = (int64_t)(date >> 40 & 255);
    clock->hour = (int64_t)(time & 255);
    clock->minute = (int64_t)(time >> 24 & 255);
    clock->second = (int64_t)(time >> 48 & 255);
    return true;
}

/* A date, optionally with hours and minutes, optionally with seconds. Returns the pointer after them. */
static Text any_clock(Text p, Text end, Clock *clock) {
    *clock = (Clock){0};
    if (end - p < 10 || !digits(p, 4, &clock->year) || p[4] != '-' || !digits(p + 5, 2, &clock->month) || p[7] != '-' ||
        !digits(p + 8, 2, &clock->day))
        return NULL;
    p += 10;
    if (p == end) return p;
    if (end - p < 6 || (*p != 'T' && *p != ' ') || !digits(p + 1, 2, &clock->hour) || p[3] != ':' ||
        !digits(p + 4, 2, &clock->minute))
        return NULL;
    p += 6;
    if (*p != ':') return p;
    return digits(p + 1, 2, &clock->second) ? p + 3 : NULL;
}

/* The offset from UTC of a local time, which is given as if it were UTC: mapped.Translator._zoned. False where it is too early. */
static bool local_offset(const Mapping *mapping, int64_t seconds, int64_t *offset) {
    int64_t low = 0, high = mapping->zones;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (mapping->zone_from[middle] <= seconds) low = middle + 1;
        else high = middle;
    }
    if (!low || low == mapping->zones) return false; /* before the first or after the last that is known */
    *offset = mapping->offsets[low - 1];
    return true;
}

/* values.INSTANT: microseconds since 1970. Reads no byte after the closing quote. */
static bool instant(const Mapping *mapping, Text p, Text end, int64_t *micros) {
    Clock at;
    int64_t fraction = 0, zone_hour = 0, zone_minute = 0;
    int sign = 0;
    bool is_local = false;
    Text start = p;
    if (end - p >= 19 && full_clock(p, &at)) p += 19;
    else if (!(p = any_clock(p, end, &at))) return false;
    if (!is_date(at.year, at.month, at.day) || at.hour > 23 || at.minute > 59 || at.second > 59) return false;
    if (p - start == 19 && *p == '.') {
        if (!is_digit(*++p)) return false;
        for (int64_t unit = 100000; is_digit(*p); p++, unit /= 10) fraction += unit * (*p - '0');
    }
    if (p - start > 10 && *p == 'Z') {
        p++;
    } else if (p - start > 10 && (*p == '+' || *p == '-')) {
        sign = *p == '-' ? 1 : -1;
        if (!digits(p + 1, 2, &zone_hour)) return false;
        p += 3;
        if (*p == ':') p++;
        if (!digits(p, 2, &zone_minute)) return false;
        p += 2;
    } else {
        is_local = mapping->zones > 0;
    }
    if (p != end || zone_hour > 23 || zone_minute > 59) return false;
    int64_t seconds = days_since_1970(at.year, at.month, at.day) * 86400 + at.hour * 3600 + at.minute * 60 + at.second;
    int64_t offset;
    if (!is_local) seconds += sign * (zone_hour * 3600 + zone_minute * 60);
    else if (local_offset(mapping, seconds, &offset)) seconds -= offset;
    else return false;
    *micros = seconds * 1000000 + fraction;
    return *micros >= 0;
}

/* values.read_instant: an ISO text, or a whole epoch number of seconds or milliseconds. */
static Text read_instant(Scan *scan, Text p, int column) {
    Text end;
    bool flag = false;
    int64_t micros;
    if (*p == '"') {
        end = string(p + 1, scan->end, &flag);
        if (!end || flag) return NULL;
        Text from = p + 1, to = end - 1;
        strip(&from, &to);
        if (from == to) return put_null(scan, column) ? end : NULL;
        return instant(scan->mapping, from, to, &micros) && put_number(scan, column, micros, true) ? end : NULL;
    }
    if (*p == 'n') return (end = literal(p, "null")) && put_null(scan, column) ? end : NULL;
    Text fraction;
    end = number(p, &fraction, &flag);
    if (!end || fraction || flag || *p == '-' || end - p > EPOCH_DIGITS) return NULL;
    if (!digits(p, (int)(end - p), &micros) || micros < SECONDS_FROM) return NULL;
    micros *= micros >= MILLISECONDS_FROM ? 1000 : 1000000;
    return put_number(scan, column, micros, true) ? end : NULL;
}

/* values.read_metadata: any value except a string, as compact text. */
static Text read_metadata(Scan *scan, Text p, int column) {
    Column *into = &scan->columns[column];
    Text end;
    if (*p == 'n') return (end = literal(p, "null")) && put_null(scan, column) ? end : NULL;
    if (*p == '"') return NULL;
    bool spaced = false;
    end = value(p, scan->end, scan->stop, scan->depth, &spaced);
    if (!end || !grow(scan, into, end - p + STEP)) return NULL;
    uint8_t *begin = into->bytes + into->used, *stop = begin + (end - p);
    if (spaced) stop = compact(p, end, begin);
    else copy(begin, p, end - p, scan->end);
    if (stop - begin > MAX_METADATA_BYTES) return NULL;
    end_text(into, stop - into->bytes, true);
    return end;
}

/* values.read_boolean: true or false. */
static Text read_boolean(Scan *scan, Text p, int column) {
    Text end;
    if (*p == 'n') return (end = literal(p, "null")) && put_null(scan, column) ? end : NULL;
    bool is_true = *p == 't';
    return (end = literal(p, is_true ? "true" : "false")) && put_number(scan, column, is_true, true) ? end : NULL;
}

/* ----------------------------------------------------------------------------------------------- members and items */

static Text read_items(Scan *scan, Text p, int column);

static const Read READ[COLUMNS] = {
    [ORDER_ID] = read_text,   [CREATED_AT] = read_instant, [UPDATED_AT] = read_instant, [USER_ID] = read_text,
    [AMOUNT] = read_decimal,  [CURRENCY] = read_text,      [METADATA] = read_metadata,  [ITEMS] = read_items,
    [SKU] = read_text,        [QTY] = read_decimal,        [PRICE] = read_decimal,
};
static const Read READ_EXTRA[KINDS] = {
    [TEXT] = read_text, [DECIMAL] = read_decimal, [INSTANT] = read_instant, [BOOLEAN] = read_boolean,
};

/* Ends the items of a record. */
static bool put_items(Scan *scan, bool valid) {
    Column *into = &scan->columns[ITEMS];
    if (!grow(scan, into, 0)) return false;
    into->values[into->count] = scan->columns[SKU].count;
    into->valid[into->count++] = valid;
    return true;
}

static inline bool is_key(Text p, Text end, const Key *key) {
    return !(((eight_bytes(p) ^ eight_bytes((Text)key->text)) & key->masks[0]) |
             ((eight_bytes(p + 8) ^ eight_bytes((Text)key->text + 8)) & key->masks[1])) &&
           (key->length <= 16 || (has(p, end, key->length) && !memcmp(p + 16, key->name + 16, (size_t)key->length - 16)));
}

/* The key of this number, if it begins here with its colon; 16 bytes are there. A table may have no key at all. */
static inline const Key *guessed_key(Text p, Text end, const Key *keys, int number) {
    const Key *key = keys + number;
    return key->length && is_key(p, end, key) ? key : NULL;
}

/* Any key and colon. `found`: which of the keys it is, or NULL. Most keys of large records are none of them, which is mostly seen
 * by their lengths. */
static Text any_key(const Scan *scan, Text p, const Table *table, const Key **found) {
    *found = NULL;
    if (*p != '"') return NULL;
    bool escaped = false;
    Text after = string(p + 1, scan->end, &escaped);
    if (!after || escaped) return NULL;
    int64_t length = after - p;
    if (table->lengths >> (length & 63) & 1)
        for (const Key *key = table->keys; key->length && !*found; key++)
            if (key->length - 1 == length && !memcmp(key->name, p, (size_t)length)) *found = key;
    p = space(after, scan->stop);
    return *p == ':' ? p + 1 : NULL;
}

static Text mapped_value(Scan *scan, Text p, const Key *key, int depth);

/* The members of an object: values go into their columns, others are skipped. A key that is read and repeated is refused.
 *
 * The key that is tried first is the next one of the table, and then the one that came here in the last object: records of one
 * source have their keys in one order. `guesses` has the numbers of these by that of the key before, and only changes the speed. */
static Text members(Scan *scan, Text p, const Table *table, int depth) {
    uint64_t seen = 0;
    uint8_t *guesses = scan->guesses + table->guesses;
    const Key *keys = table->keys, *key, *expected = keys;
    Text end = scan->end;
    p = space(p + 1, scan->stop);
    if (*p == '}') return p + 1;
    for (;;) {
        key = expected;
        if (!has(p, end, 16)) key = NULL;
        else if (!key->length || !is_key(p, end, key)) key = guessed_key(p, end, keys, guesses[expected - keys]);
        if (key) p += key->length;
        else if (!(p = any_key(scan, p, table, &key))) return NULL;
        else if (key) guesses[expected - keys] = (uint8_t)(key - keys);
        p = space(p, scan->stop);
        if (key) {
            uint64_t bit = 1ULL << (key - keys);
            if (seen & bit) return NULL;
            seen |= bit;
            expected = key + 1;
            p = key->mapped ? mapped_value(scan, p, key, depth) : key->read(scan, p, key->column);
        } else {
            scan->others |= table->is_order;
            p = skipped(scan, p, depth);
        }
        if (!p) return NULL;
        p = space(p, scan->stop);
        if (*p == '}') return p + 1;
        if (*p != ',') return NULL;
        p = space(p + 1, scan->stop);
    }
}

/* The number of values of these columns is `count` afterwards: a missing one is NULL. */
static bool put_missing(Scan *scan, int first, int stop, int64_t count) {
    for (int i = first; i < stop; i++) if (scan->columns[i].count < count && !put_null(scan, i)) return false;
    return true;
}

/* Removes the last values of these columns, down to `count`. */
static void shorten(Scan *scan, int first, int stop, int64_t count) {
    for (int i = first; i < stop; i++) {
        Column *column = &scan->columns[i];
        column->count = count;
        if (has_texts(scan, i)) column->used = column->values[count];
    }
}

/* A list of objects, or null. ITEMS has the end of the items of each record. */
static Text read_items(Scan *scan, Text p, int column) {
    int depth = scan->depth + 2;
    if (*p == 'n') {
        if (!(p = literal(p, "null"))) return NULL;
    } else {
        if (*p != '[') return NULL;
        p = space(p + 1, scan->stop);
        if (*p == ']') {
            p++;
        } else {
            for (;;) {
                int64_t count = scan->columns[SKU].count;
                scan->skipped = false;
                for (int i = SKU; i < COLUMNS; i++) scan->rank[i] = UNRANKED;
                if (*p != '{' || !(p = members(scan, p, &scan->mapping->item, depth))) return NULL;
                if (scan->skipped) shorten(scan, SKU, COLUMNS, count);
                else if (!put_missing(scan, SKU, COLUMNS, count + 1)) return NULL;
                p = space(p, scan->stop);
                if (*p == ']') {
                    p++;
                    break;
                }
                if (*p != ',') return NULL;
                p = space(p + 1, scan->stop);
            }
        }
    }
    (void)column;
    return put_items(scan, true) ? p : NULL;
}

/* ------------------------------------------------------------------------------------------------- mapped records */

/* A value that skips an item if it is there. A text must show that by its first character. */
static Text read_skipped(Scan *scan, Text p, int depth) {
    bool spaced = false;
    if (*p == 'n') return literal(p, "null");
    if (*p == '0' && p[1] != '.' && (p[1] | 32) != 'e') return p + 1; /* 0 and "0" are none */
    if (*p == '"' && p[1] == '0' && p[2] == '"') return p + 3;
    if (*p == '"' && p[1] != '"' && (is_white(p[1]) || p[1] == '\\')) return NULL;
    scan->skipped |= *p != '"' || p[1] != '"';
    return value(p, scan->end, scan->stop, depth, &spaced);
}

/* A value that does not say that the order is gone. */
static Text read_deleted(Scan *scan, Text p, int depth) {
    const Mapping *mapping = scan->mapping;
    bool spaced = false, escaped = false;
    Text end = *p == '"' ? string(p + 1, scan->end, &escaped) : value(p, scan->end, scan->stop, depth, &spaced);
    if (!end || escaped) return NULL;
    for (int64_t i = 0; i < mapping->deletions; i++)
        if (end - p == mapping->deleted_lengths[i] && !memcmp(p, mapping->deleted[i], (size_t)(end - p))) return NULL;
    return end;
}

static int64_t last_length(const Column *column) { return column->values[column->count] - column->values[column->count - 1]; }

/* Puts the prefix of the source before the last text of a column. */
static bool put_prefix(Scan *scan, Column *into) {
    int64_t size = scan->mapping->prefix_length, length = last_length(into);
    if (!size) return true;
    if (length + size > MAX_ID_BYTES || !grow(scan, into, size)) return false;
    uint8_t *text = into->bytes + into->used - length;
    memmove(text + size, text, (size_t)length);
    memcpy(text, scan->mapping->prefix, (size_t)size);
    into->values[into->count] = into->used += size;
    return true;
}

/* The last value of a column takes the place of the one before it. */
static void replace_value(Column *column, bool text) {
    int64_t *last = column->values + --column->count;
    column->valid[column->count - 1] = column->valid[column->count];
    if (text) {
        memmove(column->bytes + last[-1], column->bytes + last[0], (size_t)(last[1] - last[0]));
        column->used = last[0] = last[-1] + last[1] - last[0];
    } else {
        last[-1] = last[0];
    }
}

/* What a mapping makes of the value that was read from `p` to `end`: false where the reference parser must read it. `there`:
 * whether it is a value at all. */
static bool converted(Scan *scan, Text p, Text end, int column, bool *there) {
    Column *into = &scan->columns[column];
    *there = into->valid[into->count - 1];
    if (!*there) return true;
    uint8_t *text = has_texts(scan, column) ? into->bytes + into->used - last_length(into) : NULL;
    if (column == USER_ID && last_length(into) == 1 && *text == '0') {
        *there = false;
        return end - p == 1 || (end - p == 3 && p[1] == '0');
    }
    if (column == CURRENCY && *p == '"' && last_length(into) == 3) {
        for (int i = 0; i < 3; i++) if ((uint8_t)((text[i] | 32) - 'a') > 25) return true;
        for (int i = 0; i < 3; i++) text[i] &= (uint8_t)~32;
    }
    if ((column == AMOUNT || column == PRICE) && scan->mapping->minor_units && memchr(p, '.', (size_t)(end - p))) return false;
    return (column != USER_ID && column != ORDER_ID) || put_prefix(scan, into);
}

/* Reads a value of a column. Of several, the one of the lowest rank that is there counts: not null, and no blank text. */
static Text ranked_value(Scan *scan, Text p, const Key *key, int depth) {
    int column = key->column;
    Column *into = &scan->columns[column];
    bool replaces = scan->rank[column] != UNRANKED, there;
    if (*p == 'n') return literal(p, "null");
    if (column == ITEMS && replaces) return NULL;
    scan->depth = depth;
    Text end = key->read(scan, p, column);
    if (!end || (column != ITEMS && !converted(scan, p, end, column, &there))) return NULL;
    if (column != ITEMS && !there) {
        shorten(scan, column, column + 1, into->count - 1);
        return end;
    }
    if (replaces) replace_value(into, has_texts(scan, column));
    scan->rank[column] = key->rank;
    return end;
}

/* The value of a key under a mapping. One that is a second choice of the record is put off: the first choice mostly follows. */
static Text mapped_value(Scan *scan, Text p, const Key *key, int depth) {
    int column = key->column;
    if (key->inside && (*p == '{' || *p == '[')) {
        if ((column != NO_COLUMN && column != METADATA) || (*p == '[' && key->inside->has_index)) return NULL;
        Text end = *p == '{' ? members(scan, p, key->inside, depth + 1) : p;
        if (!end || (*p == '{' && column == NO_COLUMN)) return end; /* metadata is also read as a whole */
    }
    if (key->deletes && !read_deleted(scan, p, depth)) return NULL;
    if (column == SKIPPED) return read_skipped(scan, p, depth);
    if (column == DELETED) return read_deleted(scan, p, depth);
    if (column == NO_COLUMN || scan->rank[column] < key->rank) return skipped(scan, p, depth);
    if (key->rank && *p == '"' && !scan->second.key && !is_of_item(column)) {
        scan->second = (Second){key, p, depth};
        return skipped(scan, p, depth);
    }
    return ranked_value(scan, p, key, depth);
}

/* Reads the second choice that was put off, unless a better one has come. False where the record is refused. */
static inline bool take_second(Scan *scan) {
    Second second = scan->second;
    if (!second.key || scan->rank[second.key->column] < second.key->rank) return true;
    return ranked_value(scan, second.p, second.key, second.depth);
}

/* Completes keys of which tables.py has set the names (`length` bytes, in quotes with a colon), and all that it knows. */
void strandline_prepare_keys(Key *keys, int64_t count) {
    for (Key *key = keys; key < keys + count; key++) {
        int known = key->length < 16 ? key->length : 16;
        memcpy(key->text, key->name, (size_t)known);
        for (int word = 0; word < 2; word++) key->masks[word] = FIRST_BYTES(known - 8 * word);
        key->read = key->column < COLUMNS ? READ[key->column] : key->column < ALL_COLUMNS ? READ_EXTRA[key->kind] : NULL;
    }
}

/* --------------------------------------------------------------------------------------------------------- records */

/* Removes what a refused record left in the columns, and makes it NULL: a missing order_id marks it as refused. */
static void refuse(Scan *scan, int64_t record, int64_t items) {
    shorten(scan, 0, RECORD_COLUMNS, record);
    shorten(scan, SKU, COLUMNS, items);
    shorten(scan, COLUMNS, columns_end(scan), record);
    put_missing(scan, 0, ITEMS, record + 1);
    put_missing(scan, COLUMNS, columns_end(scan), record + 1);
    put_items(scan, true);
}

/* Whether the last text of a column may be a number as a spreadsheet shortens it: values.is_shortened, and a few more. */
static bool may_be_shortened(const Column *column) {
    int64_t start = column->values[column->count - 1], length = column->values[column->count] - start;
    Text end = column->bytes + start + length;
    return length >= 5 && (end[-4] | 32) == 'e' && end[-3] == '+';
}

/* Reads a record, up to `stop` where that is known. Returns the pointer after it; NULL where it is refused. A record with members
 * that are not read, but neither amount nor items, is bare. */
static Text read_record(Scan *scan, Text p, Text stop) {
    const Column *id = &scan->columns[ORDER_ID], *created_at = &scan->columns[CREATED_AT];
    int64_t record = id->count, items = scan->columns[SKU].count;
    for (int i = 0; i < RECORD_COLUMNS; i++) scan->rank[i] = UNRANKED;
    for (int i = COLUMNS; i < columns_end(scan); i++) scan->rank[i] = UNRANKED;
    scan->stop = stop ? stop : scan->end;
    scan->others = false;
    scan->second.key = NULL;
    scan->depth = 1;
    Text end = *p == '{' ? members(scan, p, &scan->mapping->order, 1) : NULL;
    if (end && !take_second(scan)) end = NULL;
    if (end && scan->columns[ITEMS].count == record && !put_items(scan, !scan->others || scan->columns[AMOUNT].count > record)) end = NULL;
    if (end && !put_missing(scan, 0, ITEMS, record + 1)) end = NULL;
    if (end && !put_missing(scan, COLUMNS, columns_end(scan), record + 1)) end = NULL;
    if (end && (!stop || end == stop) && id->valid[record] && created_at->valid[record] && !may_be_shortened(id) && is_utf8(p, end))
        return end;
    if (!scan->failed) refuse(scan, record, items);
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------------- allocation */

typedef unsigned __int128 Wide;

/* Allocates amount[i] to the lines up to stops[i] by weight qty × price (only the amount may be negative): facts.allocate. An
 * order whose weights add up to 2^63 or more is skipped, and its index goes to `huge`. Returns the number of these. */
int64_t strandline_allocate(const int64_t *amount, const int64_t *qty, const int64_t *price, const int64_t *stops, int64_t count,
                            int64_t *shares, int64_t *huge) {
    int64_t start = 0, left = 0;
    for (int64_t order = 0; order < count; start = stops[order++]) {
        Wide total = 0;
        for (int64_t line = start; line < stops[order] && total < (Wide)1 << 63; line++) total += (Wide)qty[line] * (Wide)price[line];
        if (total >= (Wide)1 << 63) {
            huge[left++] = order;
            continue;
        }
        uint64_t weight = (uint64_t)total, running = 0;
        uint64_t size = amount[order] < 0 ? -(uint64_t)amount[order] : (uint64_t)amount[order];
        int64_t sign = amount[order] < 0 ? -1 : 1, given = 0;
        bool even = weight == 0; /* all weights 0: equal weights */
        if (even) weight = (uint64_t)(stops[order] - start);
        for (int64_t line = start; line < stops[order]; line++) {
            running += even ? 1 : (uint64_t)qty[line] * (uint64_t)price[line];
            /* size < 2^60 and running <= weight < 2^63: the product fits, and the quotient is at most `size`. */
            int64_t upto = running == weight ? (int64_t)size : (int64_t)((2 * (Wide)size * running + weight) / (2 * (Wide)weight));
            shares[line] = sign * (upto - given);
            given = upto;
        }
    }
    return left;
}

/* ---------------------------------------------------------------------------------------------------------- interface */

const char strandline_source[] = SOURCE_HASH; /* the SHA-256 of all sources that were compiled */

/* Prepares the scan of a blob with `count` records; 0 if the number is unknown. */
static bool begin(Scan *scan, Text blob, int64_t length, int64_t count) {
    scan->end = blob + length;
    for (int i = 0; i < columns_end(scan); i++)
        if (!enlarge(scan, &scan->columns[i], i < RECORD_COLUMNS || i >= COLUMNS ? count : 0, 0)) return false;
    return true;
}

/* Reads `count` records of a blob of `length` bytes, record i from blob[starts[i]] to blob[stops[i]]. Returns 0, or -1 where
 * memory runs out. The caller must call strandline_release. */
int strandline_scan(Text blob, int64_t length, const int64_t *starts, const int64_t *stops, int64_t count, Scan *scan) {
    if (!begin(scan, blob, length, count)) return -1;
    for (int64_t record = 0; record < count && !scan->failed; record++)
        read_record(scan, blob + starts[record], blob + stops[record]);
    return scan->failed ? -1 : 0;
}

void strandline_release(Scan *scan) {
    for (int i = 0; i < ALL_COLUMNS; i++) {
        free(scan->columns[i].values);
        free(scan->columns[i].valid);
        free(scan->columns[i].bytes);
    }
    memset(scan, 0, sizeof *scan);
}

/* Parts of a text: part i is blob[starts[i]] to blob[stops[i]]. */
typedef struct {
    int64_t *starts, *stops;
    int64_t count, capacity;
} Spans;

static bool add_span(Spans *spans, int64_t start, int64_t stop) {
    int64_t capacity = spans->capacity;
    if (!reserve((void **)&spans->starts, &capacity, spans->count + 1, sizeof(int64_t))) return false;
    if (capacity > spans->capacity) {
        int64_t *stops = realloc(spans->stops, (size_t)capacity * sizeof(int64_t));
        if (!stops) return false;
        spans->stops = stops;
        spans->capacity = capacity;
    }
    spans->starts[spans->count] = start;
    spans->stops[spans->count++] = stop;
    return true;
}

static bool is_blank(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\r'; }

/* The lines of a text that are not blank, without blanks around them. Returns 0, or -1 where memory runs out. */
int strandline_lines(Text blob, int64_t length, Spans *spans) {
    for (int64_t start = 0; start < length;) {
        Text newline = memchr(blob + start, '\n', (size_t)(length - start));
        int64_t next = newline ? newline - blob + 1 : length, stop = newline ? next - 1 : length;
        while (start < stop && is_blank(blob[start])) start++;
        while (start < stop && is_blank(blob[stop - 1])) stop--;
        if (start < stop && !add_span(spans, start, stop)) return -1;
        start = next;
    }
    return 0;
}

/* Many values of less than SMALL_VALUE bytes on average are not orders, and their columns would take more memory than the text. */
enum { FEW_VALUES = 1 << 16, SMALL_VALUE = 24 };

/* See strandline_parts. With a `scan`, also reads each value of an array as a record, unless the values are very small. */
static int find_parts(Text blob, int64_t length, bool open, Spans *spans, Scan *scan) {
    Text stop = blob + length, p = space(blob, stop), end;
    bool object = !open && *p == '{', spaced = false;
    uint8_t close = object ? '}' : ']';
    if (!open) {
        if (!object && *p != '[') return 1;
        p = space(p + 1, stop);
        if (*p == close) return space(p + 1, stop) == stop ? 0 : 1;
    }
    for (;;) {
        if (object) {
            bool escaped = false;
            end = *p == '"' ? string(p + 1, stop, &escaped) : NULL;
            if (!end) return 1;
            if (!add_span(spans, p - blob, end - blob)) return -1;
            p = space(end, stop);
            if (*p != ':') return 1;
            p = space(p + 1, stop);
        }
        if (scan && spans->count > FEW_VALUES && (p - blob) / SMALL_VALUE < spans->count) return 1;
        end = scan ? read_record(scan, p, NULL) : NULL;
        if (scan && scan->failed) return -1;
        if (!end) end = value(p, stop, stop, 0, &spaced); /* a refused record may still be JSON */
        if (!end || end > stop) return 1;
        if (!add_span(spans, p - blob, end - blob)) return -1;
        p = space(end, stop);
        if (open && p == stop) return 0;
        if (!open && *p == close) return space(p + 1, stop) == stop ? 0 : 1;
        if (*p != ',') return 1;
        p = space(p + 1, stop);
    }
}

/* The values of an array, or the keys and values of an object in turn. The text is one such document, or (`open`) the inside of
 * an array. Returns 0; 1 where the text is not JSON or nested too deep; -1 where memory runs out. */
int strandline_parts(Text blob, int64_t length, int open, Spans *spans) { return find_parts(blob, length, open, spans, NULL); }

/* strandline_parts of an array and strandline_scan of its values, in one pass. Returns 1 also where the values are very small.
 * The caller must call strandline_release. */
int strandline_scan_array(Text blob, int64_t length, int open, Spans *spans, Scan *scan) {
    if (!begin(scan, blob, length, 0)) return -1;
    return find_parts(blob, length, open, spans, scan);
}

void strandline_release_spans(Spans *spans) {
    free(spans->starts);
    free(spans->stops);
    memset(spans, 0, sizeof *spans);
}
