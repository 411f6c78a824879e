/* Orders by their 128-bit keys: the hashes of ORDERS rows, and the entries of the order index, sorted by key.
 *
 * A row's key is the hash of its order_id, its content the hash of all else that decides its FACT rows. Both are computed
 * here from the finished columns, so that it cannot matter which lane has read a record.
 *
 * Plain C11, no Python: loaded with ctypes, which releases Python's lock during a call. Nothing here keeps anything.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blake2b.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the keys of orders are computed for little-endian machines here"
#endif

/* model.INDEX_ENTRY, as it lies in the ledger. */
typedef struct __attribute__((packed)) {
    uint64_t hi, lo;
    int32_t date;
    int64_t instant;
    uint32_t drop, position;
    uint64_t content[2];
} Entry;

_Static_assert(sizeof(Entry) == 52, "the ledger holds entries of this size");

/* A column of an Arrow table: number i is values[offset + i]; text i, or list i, has the places from there to the next. */
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

/* How an order is spelled to be hashed: its fields one after the other, each of which tells its own end. So two orders are
 * spelled alike only if they are alike. */

/* Seven bits a byte, the lowest first; the last byte is below 128. */
static uint8_t *spelled_size(uint8_t *out, uint64_t size) {
    for (; size >= 128; size >>= 7) *out++ = (uint8_t)(size | 128);
    *out++ = (uint8_t)size;
    return out;
}

/* 0 is NULL; numbers are smaller than 2^62, so that there is room for it. */
static uint8_t *spelled_number(uint8_t *out, const Arrow *column, int64_t i) {
    if (!is_valid(column, i)) return spelled_size(out, 0);
    int64_t value = number_at(column, i);
    return spelled_size(out, ((uint64_t)value << 1 ^ (uint64_t)(value >> 63)) + 1); /* 0, -1, 1, -2, 2 … from 1 on */
}

/* 0 is NULL; else its length and one, then its bytes. */
static uint8_t *spelled_text(uint8_t *out, const Arrow *column, int64_t i) {
    if (!is_valid(column, i)) return spelled_size(out, 0);
    int64_t from = number_at(column, i), length = number_at(column, i + 1) - from;
    out = spelled_size(out, (uint64_t)length + 1);
    if (length) memcpy(out, column->bytes + from, (size_t)length);
    return out + length;
}

enum { ORDER_ID, CREATED_AT, UPDATED_AT, USER_ID, AMOUNT, CURRENCY, METADATA, ITEMS, SKU, QTY, PRICE };
enum { LONGEST_SIZE = 10 }; /* bytes of a spelled size or number */

static int64_t room_of(const Arrow *texts, int64_t first, int64_t last) {
    if (first == last) return 0; /* an array of no texts need not have places at all */
    return number_at(texts, last) - number_at(texts, first) + (last - first) * LONGEST_SIZE;
}

static int64_t room_for(const Arrow *columns, int64_t i, int64_t first, int64_t last) {
    return (4 + 2 * (last - first)) * LONGEST_SIZE + room_of(&columns[USER_ID], i, i + 1) + room_of(&columns[CURRENCY], i, i + 1)
           + room_of(&columns[METADATA], i, i + 1) + room_of(&columns[SKU], first, last);
}

/* All but the id of order i, whose items are `first` to `last`. */
static uint8_t *spelled_content(uint8_t *end, const Arrow *columns, int64_t i, int64_t first, int64_t last) {
    end = spelled_number(end, &columns[CREATED_AT], i);
    end = spelled_number(end, &columns[UPDATED_AT], i);
    end = spelled_text(end, &columns[USER_ID], i);
    end = spelled_number(end, &columns[AMOUNT], i);
    end = spelled_text(end, &columns[CURRENCY], i);
    end = spelled_text(end, &columns[METADATA], i);
    end = spelled_size(end, (uint64_t)(last - first));
    for (int64_t item = first; item < last; item++) {
        end = spelled_text(end, &columns[SKU], item);
        end = spelled_number(end, &columns[QTY], item);
        end = spelled_number(end, &columns[PRICE], item);
    }
    return end;
}

/* Some texts that are to be hashed together, one after the other, with SPARE bytes after each. */
typedef struct {
    uint8_t *bytes;
    int64_t room, used, starts[LANES], lengths[LANES];
} Pile;

static uint8_t *room_on(Pile *pile, int64_t wanted) {
    if (pile->used + wanted + SPARE > pile->room) {
        int64_t room = 2 * (pile->used + wanted + SPARE);
        uint8_t *moved = realloc(pile->bytes, (size_t)room);
        if (!moved) return NULL;
        pile->bytes = moved;
        pile->room = room;
    }
    return pile->bytes + pile->used;
}

static void lay_on(Pile *pile, int lane, int64_t length) {
    pile->starts[lane] = pile->used;
    pile->lengths[lane] = length;
    pile->used += length + SPARE;
}

/* The hashes of as many texts as there are in `used` lanes go to `digests`, 16 bytes each; the pile is empty again. */
static void hash_pile(Pile *pile, int used, uint8_t *digests) {
    const uint8_t *texts[LANES];
    uint8_t nowhere[16], *into[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        if (lane >= used) pile->starts[lane] = pile->lengths[lane] = 0;
        texts[lane] = pile->bytes + pile->starts[lane];
        into[lane] = lane < used ? digests + 16 * lane : nowhere;
    }
    hash_texts(texts, pile->lengths, into);
    pile->used = 0;
}

/* The key and the content of each of `count` orders, 16 bytes each. `columns`: as above. 0, or -1 where memory ran out. */
int strandline_hashes(const Arrow *columns, int64_t count, uint8_t *keys, uint8_t *contents) {
    const Arrow *ids = &columns[ORDER_ID], *items = &columns[ITEMS];
    Pile id_pile = {0}, content_pile = {0};
    int failed = 0;
    for (int64_t begin = 0; begin < count && !failed; begin += LANES) {
        int used = count - begin < LANES ? (int)(count - begin) : LANES;
        for (int lane = 0; lane < used && !failed; lane++) {
            int64_t i = begin + lane, id = number_at(ids, i), length = number_at(ids, i + 1) - id;
            int64_t first = number_at(items, i), last = number_at(items, i + 1);
            uint8_t *text = room_on(&id_pile, length), *content = room_on(&content_pile, room_for(columns, i, first, last));
            failed = !text || !content;
            if (failed) break;
            if (length) memcpy(text, ids->bytes + id, (size_t)length);
            lay_on(&id_pile, lane, length);
            lay_on(&content_pile, lane, spelled_content(content, columns, i, first, last) - content);
        }
        if (failed) break;
        hash_pile(&id_pile, used, keys + 16 * begin);
        hash_pile(&content_pile, used, contents + 16 * begin);
    }
    free(id_pile.bytes);
    free(content_pile.bytes);
    return failed ? -1 : 0;
}

/* ------------------------------------------------------------------------------------------------ orders into entries */

/* Keys are hashes, so that their highest bits spread entries evenly over buckets. Rows are gone through twice: to count what
 * goes into each bucket, and to put each entry straight to its place there. What is left is to sort within buckets. */

static int64_t bucket_of(uint64_t hi, int bits) { return bits ? (int64_t)(hi >> (64 - bits)) : 0; }

/* Adds to counts[b + 1] how many of some keys (16 bytes each) belong into bucket b. */
void strandline_count_keys(const uint8_t *keys, int64_t count, int bits, int64_t *counts) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t hi;
        memcpy(&hi, keys + 16 * i, 8);
        counts[bucket_of(hi, bits) + 1]++;
    }
}

enum { KEY, CONTENT, DROP, POSITION, CREATED, UPDATED };
static const int64_t MICROSECONDS_PER_DAY = 86400000000;

/* Puts the entries of `count` orders at next[their bucket], which moves on, and their rows (from `row` on) beside. */
void strandline_place_entries(const Arrow *columns, int64_t count, int64_t row, int bits, int64_t *next, Entry *entries,
                              int64_t *rows) {
    const uint8_t *keys = (const uint8_t *)columns[KEY].values + 16 * columns[KEY].offset;
    const uint8_t *contents = (const uint8_t *)columns[CONTENT].values + 16 * columns[CONTENT].offset;
    for (int64_t i = 0; i < count; i++) {
        int64_t created_at = number_at(&columns[CREATED], i);
        Entry entry = {
            .date = (int32_t)(created_at / MICROSECONDS_PER_DAY), /* none is before 1970 */
            .instant = is_valid(&columns[UPDATED], i) ? number_at(&columns[UPDATED], i) : created_at,
            .drop = (uint32_t)number_at(&columns[DROP], i),
            .position = (uint32_t)number_at(&columns[POSITION], i),
        };
        memcpy(&entry, keys + 16 * i, 16);
        memcpy(entry.content, contents + 16 * i, 16);
        int64_t place = next[bucket_of(entry.hi, bits)]++;
        entries[place] = entry;
        rows[place] = row + i;
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

/* By key, then by version. Shell's sort: no more than insertion where there are few, and no trouble where there are many
 * after all, because one order came again and again. */
static void sort_bucket(Entry *entries, int64_t *rows, int64_t count) {
    int64_t gap = 1;
    while (gap < count / 3) gap = gap * 9 / 4 + 1;
    for (;; gap = gap > 2 ? gap * 4 / 9 : 1) {
        for (int64_t i = gap; i < count; i++) {
            Entry entry = entries[i];
            int64_t row = rows[i], place = i;
            for (; place >= gap && before(&entry, &entries[place - gap]); place -= gap) {
                entries[place] = entries[place - gap];
                rows[place] = rows[place - gap];
            }
            if (place != i) entries[place] = entry, rows[place] = row;
        }
        if (gap == 1) return;
    }
}

/* Sorts entries that lie in their buckets (bucket b ends at stops[b]), and keeps the latest version of each key: how many
 * there are then. */
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

/* Whether keys ascend, each once. */
int strandline_ascend(const Entry *entries, int64_t count) {
    for (int64_t i = 1; i < count; i++) if (by_key(&entries[i - 1], &entries[i]) >= 0) return 0;
    return 1;
}

/* Where the first entry stands that is not below `wanted`. */
static int64_t place_of(const Entry *wanted, const Entry *entries, int64_t from, int64_t to) {
    while (from < to) {
        int64_t middle = from + (to - from) / 2;
        if (by_key(&entries[middle], wanted) < 0) from = middle + 1;
        else to = middle;
    }
    return from;
}

enum { SEARCHED_FROM = 16 }; /* entries to one that is wanted: from here on it is searched, below it is walked to */

/* What a part of a run (sorted) has of the keys of `wanted` (sorted) that are not `found` yet: wanted[where[i]] stands at
 * part[places[i]], and is found then. How many there are; no more than the smaller of both. */
int64_t strandline_match(const Entry *wanted, int64_t count, const Entry *part, int64_t size, uint8_t *found, int64_t *where,
                         int64_t *places) {
    if (!size) return 0;
    int64_t hits = 0, place = 0, i = place_of(&part[0], wanted, 0, count), stop = place_of(&part[size - 1], wanted, i, count);
    if (stop < count) stop++; /* the last one of the part itself */
    bool sparse = (stop - i) * SEARCHED_FROM < size;
    for (; i < stop && place < size; i++) {
        if (found[i]) continue;
        if (sparse) place = place_of(&wanted[i], part, place, size);
        else while (place < size && by_key(&part[place], &wanted[i]) < 0) place++;
        if (place < size && by_key(&part[place], &wanted[i]) == 0) {
            found[i] = 1;
            where[hits] = i;
            places[hits++] = place++;
        }
    }
    return hits;
}

/* One sorted run out of two, with room for both: of a key in both, the newer counts. How many entries it has. */
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

/* Copies entry from[i] of some to entry to[i] of others. */
void strandline_put_entries(const Entry *entries, const int64_t *from, const int64_t *to, int64_t count, Entry *out) {
    for (int64_t i = 0; i < count; i++) out[to[i]] = entries[from[i]];
}
