/* Orders by their 128-bit keys: the hashes of ORDERS rows, and the entries of the order index, sorted by key.
 *
 * The key of a row is the hash of its order_id, its content the hash of everything else that decides its FACT rows. Both are
 * computed from finished columns, so it cannot matter which parser read a record.
 *
 * Plain C11, no Python: loaded with ctypes, which releases Python's lock during a call. There is no state between calls.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blake2b.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the keys of orders are computed for little-endian machines only"
#endif

/* model.INDEX_ENTRY, as in the ledger. */
typedef struct __attribute__((packed)) {
    uint64_t hi, lo;
    int32_t date;
    int64_t instant;
    uint32_t drop, position;
    uint64_t content[2];
} Entry;

_Static_assert(sizeof(Entry) == 52, "the ledger holds entries of this size");

/* A column of an Arrow table: number i is values[offset + i]; text or list i begins there, and ends at the next value. */
typedef struct {
    const uint8_t *valid; /* a bit a value; NULL: all are valid */
    const void *values;
    const uint8_t *bytes;
    int64_t offset;
} Arrow;

static bool is_valid(const Arrow *column, int64_t i) {
    i += column->offset;
    return !column->valid || column->valid[i >> 3] >> (i & 7) & 1;
}

static int64_t number_at(const Arrow *column, int64_t i) { return ((const int64_t *)column->values)[column->offset + i]; }

/* ---------------------------------------------------------------------------------------------- the hashes of orders */

/* The bytes of an order that are hashed: its fields one after the other, each with its own end. So equal bytes are equal
 * orders. */

/* Seven bits per byte, the lowest first; the last byte is below 128. */
static uint8_t *put_size(uint8_t *out, uint64_t size) {
    for (; size >= 128; size >>= 7) *out++ = (uint8_t)(size | 128);
    *out++ = (uint8_t)size;
    return out;
}

/* 0 is NULL. Other numbers are shifted by one; they are below 2^62, so that cannot overflow. */
static uint8_t *put_number(uint8_t *out, const Arrow *column, int64_t i) {
    if (!is_valid(column, i)) return put_size(out, 0);
    int64_t value = number_at(column, i);
    return put_size(out, ((uint64_t)value << 1 ^ (uint64_t)(value >> 63)) + 1); /* 0, -1, 1, -2, 2 … from 1 on */
}

/* 0 is NULL; else the length plus one, then the bytes. */
static uint8_t *put_text(uint8_t *out, const Arrow *column, int64_t i) {
    if (!is_valid(column, i)) return put_size(out, 0);
    int64_t from = number_at(column, i), length = number_at(column, i + 1) - from;
    out = put_size(out, (uint64_t)length + 1);
    if (length) memcpy(out, column->bytes + from, (size_t)length);
    return out + length;
}

enum { ORDER_ID, CREATED_AT, UPDATED_AT, USER_ID, AMOUNT, CURRENCY, METADATA, ITEMS, SKU, QTY, PRICE };
enum { LONGEST_SIZE = 10 }; /* bytes of a size or a number */

static int64_t texts_size(const Arrow *texts, int64_t first, int64_t last) {
    if (first == last) return 0; /* an empty array may have no offsets */
    return number_at(texts, last) - number_at(texts, first) + (last - first) * LONGEST_SIZE;
}

static int64_t content_size(const Arrow *columns, int64_t i, int64_t first, int64_t last) {
    return (4 + 2 * (last - first)) * LONGEST_SIZE + texts_size(&columns[USER_ID], i, i + 1) +
           texts_size(&columns[CURRENCY], i, i + 1) + texts_size(&columns[METADATA], i, i + 1) +
           texts_size(&columns[SKU], first, last);
}

/* All fields except the id of order i, whose items are `first` to `last`. */
static uint8_t *put_content(uint8_t *end, const Arrow *columns, int64_t i, int64_t first, int64_t last) {
    end = put_number(end, &columns[CREATED_AT], i);
    end = put_number(end, &columns[UPDATED_AT], i);
    end = put_text(end, &columns[USER_ID], i);
    end = put_number(end, &columns[AMOUNT], i);
    end = put_text(end, &columns[CURRENCY], i);
    end = put_text(end, &columns[METADATA], i);
    end = put_size(end, (uint64_t)(last - first));
    for (int64_t item = first; item < last; item++) {
        end = put_text(end, &columns[SKU], item);
        end = put_number(end, &columns[QTY], item);
        end = put_number(end, &columns[PRICE], item);
    }
    return end;
}

/* An extra column of orders. */
typedef struct {
    const uint8_t *name;
    int64_t length;
    int kind;
    Arrow column;
} Extra;
enum { TEXT, NUMBER, BOOLEAN };

static int64_t extra_size(const Extra *extra, int64_t count, int64_t i) {
    int64_t size = 0;
    for (const Extra *one = extra; one < extra + count; one++)
        size += one->length + 3 * LONGEST_SIZE + (one->kind == TEXT ? texts_size(&one->column, i, i + 1) : 0);
    return size;
}

/* The values of order i, each behind the name and the kind of its column. NULL is nothing, so that a column which was added or
 * removed changes no order without a value in it. */
static uint8_t *put_extra(uint8_t *end, const Extra *extra, int64_t count, int64_t i) {
    for (const Extra *one = extra; one < extra + count; one++) {
        if (!is_valid(&one->column, i)) continue;
        end = put_size(end, (uint64_t)one->length);
        memcpy(end, one->name, (size_t)one->length);
        end = put_size(end + one->length, (uint64_t)one->kind);
        int64_t bit = one->column.offset + i;
        if (one->kind == TEXT) end = put_text(end, &one->column, i);
        else if (one->kind == NUMBER) end = put_number(end, &one->column, i);
        else end = put_size(end, ((const uint8_t *)one->column.values)[bit >> 3] >> (bit & 7) & 1);
    }
    return end;
}

/* A text to hash, in a buffer of its own. */
typedef struct {
    uint8_t *bytes, *digest; /* no digest: no text */
    int64_t capacity, length;
} Text;

/* Where `wanted` bytes can be written; NULL where memory runs out. */
static uint8_t *begin_text(Text *text, int64_t wanted) {
    if (wanted + BLOCK > text->capacity) {
        uint8_t *moved = realloc(text->bytes, (size_t)(2 * (wanted + BLOCK)));
        if (!moved) return NULL;
        text->bytes = moved;
        text->capacity = 2 * (wanted + BLOCK);
    }
    return text->bytes;
}

static void hash_both(const Text *one, const Text *other) {
    hash_texts((const uint8_t *[]){one->bytes, other->bytes}, (int64_t[]){one->length, other->length},
               (uint8_t *[]){one->digest, other->digest});
}

/* Texts of as many blocks are hashed together, so that no lane waits for the other one. */
enum { MOST_BLOCKS = 8 }; /* longer texts may have different numbers */

/* Hashes a text that ends at `end`, or lets it wait for one of as many blocks. */
static void end_text(Text *text, uint8_t *end, uint8_t *digest, Text *waiting) {
    memset(end, 0, BLOCK);
    text->length = end - text->bytes;
    text->digest = digest;
    int64_t blocks = (text->length + BLOCK - 1) / BLOCK;
    Text *other = &waiting[blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS];
    if (other->digest) {
        hash_both(text, other);
        other->digest = NULL;
    } else { /* exchange their buffers */
        Text idle = *other;
        *other = *text;
        *text = idle;
    }
}

/* The key and the content of each of `count` orders, 16 bytes each. `columns`: ORDER_ID to PRICE. `extra`: `extras` more, by name.
 * Returns 0, or -1 where memory runs out. */
int strandline_hashes(const Arrow *columns, int64_t count, const Extra *extra, int64_t extras, uint8_t *keys, uint8_t *contents) {
    const Arrow *ids = &columns[ORDER_ID], *items = &columns[ITEMS];
    Text text = {0}, waiting[MOST_BLOCKS + 1] = {0};
    int failed = 0;
    for (int64_t i = 0; i < count && !failed; i++) {
        int64_t id = number_at(ids, i), length = number_at(ids, i + 1) - id;
        int64_t first = number_at(items, i), last = number_at(items, i + 1);
        uint8_t *end = begin_text(&text, length);
        failed = !end;
        if (failed) break;
        if (length) memcpy(end, ids->bytes + id, (size_t)length);
        end_text(&text, end + length, keys + 16 * i, waiting);
        end = begin_text(&text, content_size(columns, i, first, last) + extra_size(extra, extras, i));
        failed = !end;
        if (failed) break;
        end_text(&text, put_extra(put_content(end, columns, i, first, last), extra, extras, i), contents + 16 * i, waiting);
    }
    for (Text *one = waiting; one <= waiting + MOST_BLOCKS; one++) {
        if (one->digest) hash_both(one, one);
        free(one->bytes);
    }
    free(text.bytes);
    return failed ? -1 : 0;
}

/* ------------------------------------------------------------------------------------------------ orders into entries */

/* Keys are hashes, so their highest bits distribute entries evenly over buckets. The first pass counts the entries of each
 * bucket, the second one writes each entry into its bucket. Then each bucket is sorted. */

static int64_t bucket_of(uint64_t hi, int bits) { return bits ? (int64_t)(hi >> (64 - bits)) : 0; }

/* Adds to counts[b + 1] the number of keys (16 bytes each) in bucket b. */
void strandline_count_keys(const uint8_t *keys, int64_t count, int bits, int64_t *counts) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t hi;
        memcpy(&hi, keys + 16 * i, 8);
        counts[bucket_of(hi, bits) + 1]++;
    }
}

enum { KEY, CONTENT, DROP, POSITION, CREATED, UPDATED };
static const int64_t MICROSECONDS_PER_DAY = 86400000000;

/* Writes the entry of each of `count` orders at next[its bucket]++, and its row (from `row` on) into `rows`. */
void strandline_place_entries(const Arrow *columns, int64_t count, int64_t row, int bits, int64_t *next, Entry *entries,
                              int64_t *rows) {
    const uint8_t *keys = (const uint8_t *)columns[KEY].values + 16 * columns[KEY].offset;
    const uint8_t *contents = (const uint8_t *)columns[CONTENT].values + 16 * columns[CONTENT].offset;
    for (int64_t i = 0; i < count; i++) {
        int64_t created_at = number_at(&columns[CREATED], i);
        Entry entry = {
            .date = (int32_t)(created_at / MICROSECONDS_PER_DAY), /* exact: none is before 1970 but DELETED_AT, whole days */
            .instant = is_valid(&columns[UPDATED], i) ? number_at(&columns[UPDATED], i) : created_at,
            .drop = (uint32_t)number_at(&columns[DROP], i),
            .position = (uint32_t)number_at(&columns[POSITION], i),
        };
        memcpy(&entry, keys + 16 * i, 16);
        memcpy(entry.content, contents + 16 * i, 16);
        int64_t at = next[bucket_of(entry.hi, bits)]++;
        entries[at] = entry;
        rows[at] = row + i;
    }
}

static int by_key(const Entry *one, const Entry *other) {
    if (one->hi != other->hi) return one->hi < other->hi ? -1 : 1;
    return one->lo != other->lo ? (one->lo < other->lo ? -1 : 1) : 0;
}

static int by_version(const Entry *one, const Entry *other) {
    if (one->instant != other->instant) return one->instant < other->instant ? -1 : 1;
    if (one->drop != other->drop) return one->drop < other->drop ? -1 : 1;
    return one->position != other->position ? (one->position < other->position ? -1 : 1) : 0;
}

static bool before(const Entry *one, const Entry *other) {
    int order = by_key(one, other);
    return order < 0 || (order == 0 && by_version(one, other) < 0);
}

/* Sorts by key, then by version. Shellsort: insertion sort for the usual few entries, and still fast for the many versions of one
 * order. */
static void sort_bucket(Entry *entries, int64_t *rows, int64_t count) {
    int64_t gap = 1;
    while (gap < count / 3) gap = gap * 9 / 4 + 1;
    for (;; gap = gap > 2 ? gap * 4 / 9 : 1) {
        for (int64_t i = gap; i < count; i++) {
            Entry entry = entries[i];
            int64_t row = rows[i], at = i;
            for (; at >= gap && before(&entry, &entries[at - gap]); at -= gap) {
                entries[at] = entries[at - gap];
                rows[at] = rows[at - gap];
            }
            if (at != i) entries[at] = entry, rows[at] = row;
        }
        if (gap == 1) return;
    }
}

/* Sorts entries that are in their buckets (bucket b ends at stops[b]), and keeps the latest version of each key. Returns the
 * number of entries that are kept. */
int64_t strandline_sort_entries(Entry *entries, int64_t *rows, const int64_t *stops, int64_t buckets) {
    int64_t kept = 0, start = 0;
    for (int64_t b = 0; b < buckets; start = stops[b++]) {
        int64_t stop = stops[b];
        if (stop - start > 1) sort_bucket(entries + start, rows + start, stop - start);
        for (int64_t i = start; i < stop; i++) {
            if (i + 1 < stop && by_key(&entries[i], &entries[i + 1]) == 0) continue;
            if (kept != i) entries[kept] = entries[i], rows[kept] = rows[i];
            kept++;
        }
    }
    return kept;
}

/* ------------------------------------------------------------------------------------------------------ sorted entries */

/* Whether entries are sorted, each key once. */
int strandline_ascend(const Entry *entries, int64_t count) {
    for (int64_t i = 1; i < count; i++) if (by_key(&entries[i - 1], &entries[i]) >= 0) return 0;
    return 1;
}

/* The index of the first entry that is not below `wanted`. */
static int64_t lower_bound(const Entry *wanted, const Entry *entries, int64_t from, int64_t to) {
    while (from < to) {
        int64_t middle = from + (to - from) / 2;
        if (by_key(&entries[middle], wanted) < 0) from = middle + 1;
        else to = middle;
    }
    return from;
}

enum { SEARCHED_FROM = 16 }; /* entries per wanted key: from here on each is searched, with fewer they are read in order */

/* The keys of `wanted` that a part of a run has and that are not `found` yet (both are sorted): wanted[in_wanted[i]] is
 * part[in_part[i]], and is marked as found. Returns their number, at most the smaller of both sizes. */
int64_t strandline_match(const Entry *wanted, int64_t count, const Entry *part, int64_t size, uint8_t *found, int64_t *in_wanted,
                         int64_t *in_part) {
    if (!size) return 0;
    int64_t hits = 0, at = 0, i = lower_bound(&part[0], wanted, 0, count), stop = lower_bound(&part[size - 1], wanted, i, count);
    if (stop < count) stop++; /* it may equal the last entry of the part */
    bool sparse = (stop - i) * SEARCHED_FROM < size;
    for (; i < stop && at < size; i++) {
        if (found[i]) continue;
        if (sparse) at = lower_bound(&wanted[i], part, at, size);
        else while (at < size && by_key(&part[at], &wanted[i]) < 0) at++;
        if (at < size && by_key(&part[at], &wanted[i]) == 0) {
            found[i] = 1;
            in_wanted[hits] = i;
            in_part[hits++] = at++;
        }
    }
    return hits;
}

/* Merges two sorted runs into one; `out` has room for both. Of a key in both, the newer entry stays. Returns the number of
 * entries. */
int64_t strandline_merge(const Entry *older, int64_t olds, const Entry *newer, int64_t news, Entry *out) {
    int64_t i = 0, j = 0, count = 0;
    while (i < olds && j < news) {
        int order = by_key(&older[i], &newer[j]);
        if (order < 0) {
            out[count++] = older[i++];
        } else {
            i += order == 0;
            out[count++] = newer[j++];
        }
    }
    memcpy(out + count, older + i, (size_t)(olds - i) * sizeof(Entry));
    memcpy(out + count + (olds - i), newer + j, (size_t)(news - j) * sizeof(Entry));
    return count + (olds - i) + (news - j);
}

/* Copies the entries `order[i]`. */
void strandline_take_entries(const Entry *entries, const int64_t *order, int64_t count, Entry *out) {
    for (int64_t i = 0; i < count; i++) out[i] = entries[order[i]];
}

/* Copies entry from[i] to out[to[i]]. */
void strandline_put_entries(const Entry *entries, const int64_t *from, const int64_t *to, int64_t count, Entry *out) {
    for (int64_t i = 0; i < count; i++) out[to[i]] = entries[from[i]];
}
