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

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the keys of orders are computed for little-endian machines here"
#endif

/* model.INDEX_ENTRY, as it lies in the ledger. */
typedef struct __attribute__((packed)) {
    uint64_t hi, lo;
    int32_t date;
    int64_t instant;
    uint32_t drop, position;
    uint64_t content[2]; /* zero: not known (an entry that was written before there were hashes) */
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

/* ---------------------------------------------------------------------------------------------------------- BLAKE2b */

static uint64_t rotated(uint64_t word, int by) { return word >> by | word << (64 - by); }

/* BLAKE2b (RFC 7693), unkeyed, 16 bytes: scalars.order_key. */
static void blake2b_16(const uint8_t *text, int64_t length, uint8_t *digest) {
    static const uint64_t start[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                      0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
    static const uint8_t sigma[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
    uint64_t state[8], work[16], message[16];
    memcpy(state, start, sizeof state);
    state[0] ^= 0x01010000 ^ 16;
    int64_t done = 0;
    do {
        int64_t taken = length - done > 128 ? 128 : length - done;
        memset(message, 0, sizeof message);
        memcpy(message, text + done, (size_t)taken); /* little endian, as all machines that this is built for */
        done += taken;
        memcpy(work, state, sizeof state);
        memcpy(work + 8, start, sizeof start);
        work[12] ^= (uint64_t)done;
        if (done == length) work[14] = ~work[14];
#define MIX(a, b, c, d, i)                                \
    work[a] += work[b] + message[order[2 * (i)]];         \
    work[d] = rotated(work[d] ^ work[a], 32);             \
    work[c] += work[d];                                   \
    work[b] = rotated(work[b] ^ work[c], 24);             \
    work[a] += work[b] + message[order[2 * (i) + 1]];     \
    work[d] = rotated(work[d] ^ work[a], 16);             \
    work[c] += work[d];                                   \
    work[b] = rotated(work[b] ^ work[c], 63);
#pragma GCC unroll 12 /* then the places in `message` are constants: a third less time */
        for (int round = 0; round < 12; round++) {
            const uint8_t *order = sigma[round % 10];
            MIX(0, 4, 8, 12, 0) MIX(1, 5, 9, 13, 1) MIX(2, 6, 10, 14, 2) MIX(3, 7, 11, 15, 3)
            MIX(0, 5, 10, 15, 4) MIX(1, 6, 11, 12, 5) MIX(2, 7, 8, 13, 6) MIX(3, 4, 9, 14, 7)
        }
        for (int i = 0; i < 8; i++) state[i] ^= work[i] ^ work[i + 8];
    } while (done < length);
    memcpy(digest, state, 16);
}

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

/* The key and the content of each of `count` orders, 16 bytes each. `columns`: as above. 0, or -1 where memory ran out. */
int strandline_hashes(const Arrow *columns, int64_t count, uint8_t *keys, uint8_t *contents) {
    const Arrow *ids = &columns[ORDER_ID], *items = &columns[ITEMS];
    uint8_t *spelled = NULL;
    int64_t room = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t id = number_at(ids, i), first = number_at(items, i), last = number_at(items, i + 1);
        blake2b_16(ids->bytes + id, number_at(ids, i + 1) - id, keys + 16 * i);
        int64_t wanted = (4 + 2 * (last - first)) * LONGEST_SIZE + room_of(&columns[USER_ID], i, i + 1)
                         + room_of(&columns[CURRENCY], i, i + 1) + room_of(&columns[METADATA], i, i + 1)
                         + room_of(&columns[SKU], first, last);
        if (wanted > room) {
            uint8_t *moved = realloc(spelled, (size_t)wanted * 2);
            if (!moved) return free(spelled), -1;
            spelled = moved;
            room = wanted * 2;
        }
        uint8_t *end = spelled_number(spelled, &columns[CREATED_AT], i);
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
        blake2b_16(spelled, end - spelled, contents + 16 * i);
    }
    free(spelled);
    return 0;
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

/* Holds winners[where[i]] against the published part[places[i]]: by winner, whether the published version is the later, or
 * else whether its content is known to be the same; and the date where it is published. */
void strandline_compare(const Entry *winners, const int64_t *where, const Entry *part, const int64_t *places, int64_t count,
                        uint8_t *superseded, uint8_t *same, int32_t *old_date) {
    for (int64_t i = 0; i < count; i++) {
        const Entry *winner = &winners[where[i]], *published = &part[places[i]];
        bool later = by_version(winner, published) > 0, hashed = published->content[0] || published->content[1];
        superseded[where[i]] = !later;
        same[where[i]] = later && hashed && winner->date == published->date
                         && !memcmp(winner->content, published->content, sizeof winner->content);
        old_date[where[i]] = published->date;
    }
}

/* Copies the entries `order[i]`. */
void strandline_take_entries(const Entry *entries, const int64_t *order, int64_t count, Entry *out) {
    for (int64_t i = 0; i < count; i++) out[i] = entries[order[i]];
}

/* Copies entry from[i] of some to entry to[i] of others. */
void strandline_put_entries(const Entry *entries, const int64_t *from, const int64_t *to, int64_t count, Entry *out) {
    for (int64_t i = 0; i < count; i++) out[to[i]] = entries[from[i]];
}
