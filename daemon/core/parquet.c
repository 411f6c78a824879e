/* Tables as Parquet files: the same rows are always the same bytes, whatever libraries are installed.
 *
 * The format is that of parquet.thrift (Apache Parquet 2.6) in its most widely read part: version 1 data pages, PLAIN and
 * RLE_DICTIONARY, Snappy. A column gets a dictionary where its values repeat, as its first rows tell, and statistics where it
 * holds numbers. Nothing here decides by time or by chance.
 *
 * One call writes a table, and if asked a second one that has some of its columns: these are encoded once.
 *
 * Plain C11, no Python: loaded with ctypes, which releases Python's lock during a call.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_TOGETHER = 1000000, PAGE_BYTES = 1 << 20, DICTIONARY_BYTES = 8 << 20 };
static const char CREATED_BY[] = "strandline version 1.0.0 (build 1)"; /* parquet.c's own version: raise it with the bytes */

/* ------------------------------------------------------------------------------------------------------ growing bytes */

typedef struct {
    uint8_t *bytes;
    int64_t size, room;
    bool failed; /* memory ran out: everything after is in vain, and asks no more */
} Out;

/* Where the next `more` bytes go; NULL where there is no room to be had. */
static uint8_t *space_for(Out *out, int64_t more) {
    if (out->failed) return NULL;
    if (out->size + more > out->room) {
        int64_t room = out->room + out->room / 2 + more + 64;
        uint8_t *moved = realloc(out->bytes, (size_t)room);
        if (!moved) return out->failed = true, NULL;
        out->bytes = moved;
        out->room = room;
    }
    return out->bytes + out->size;
}

static void put(Out *out, const void *from, int64_t size) {
    uint8_t *to = size ? space_for(out, size) : NULL;
    if (!to) return;
    memcpy(to, from, (size_t)size);
    out->size += size;
}

static void put_byte(Out *out, uint8_t byte) { put(out, &byte, 1); }

static void put_number(Out *out, uint64_t value, int size) { put(out, &value, size); } /* little endian */

static void put_varint(Out *out, uint64_t value) {
    uint8_t bytes[10];
    int size = 0;
    for (; value >= 128; value >>= 7) bytes[size++] = (uint8_t)(value | 128);
    bytes[size++] = (uint8_t)value;
    put(out, bytes, size);
}

/* -------------------------------------------------------------------------------------------------------------- Snappy */

/* The format: github.com/google/snappy, format_description.txt. Blocks of 64 KiB are compressed by themselves: repeats of 4
 * bytes or more are found through a table of where each hash of 4 bytes was seen last, and looked for less and less often
 * where there are none. */

enum { BLOCK = 1 << 16, MOST_HASH_BITS = 14, MARGIN = 16 };

static uint32_t load32(const uint8_t *p) {
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}

static uint64_t load64(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

static uint8_t *put_literal(uint8_t *out, const uint8_t *from, int64_t length, bool may_read_16) {
    int64_t less = length - 1;
    if (less < 60) {
        *out++ = (uint8_t)(less << 2);
    } else if (less < 256) {
        *out++ = 60 << 2;
        *out++ = (uint8_t)less;
    } else {
        *out++ = 61 << 2;
        *out++ = (uint8_t)less;
        *out++ = (uint8_t)(less >> 8);
    }
    if (may_read_16 && length <= 16) memcpy(out, from, 16); /* of known length, a copy is no call */
    else memcpy(out, from, (size_t)length);
    return out + length;
}

static uint8_t *put_copy_of(uint8_t *out, int64_t back, int64_t length) {
    *out++ = (uint8_t)((length - 1) << 2 | 2);
    *out++ = (uint8_t)back;
    *out++ = (uint8_t)(back >> 8);
    return out;
}

/* A repeat of what stands `back` bytes before. Copies say at most 64 bytes each, and the last one at least 4. */
static uint8_t *put_copy(uint8_t *out, int64_t back, int64_t length) {
    for (; length >= 68; length -= 64) out = put_copy_of(out, back, 64);
    if (length > 64) {
        out = put_copy_of(out, back, 60);
        length -= 60;
    }
    if (length >= 12 || back >= 2048) return put_copy_of(out, back, length);
    *out++ = (uint8_t)(back >> 8 << 5 | (length - 4) << 2 | 1);
    *out++ = (uint8_t)back;
    return out;
}

static int64_t same_bytes(const uint8_t *one, const uint8_t *other, const uint8_t *end) {
    const uint8_t *p = other;
    for (; end - p >= 8; p += 8, one += 8) {
        uint64_t differ = load64(one) ^ load64(p);
        if (differ) return p - other + (__builtin_ctzll(differ) >> 3);
    }
    while (p < end && *one == *p) one++, p++;
    return p - other;
}

static uint8_t *snappy_block(const uint8_t *base, int64_t length, uint8_t *out, uint16_t *seen) {
    const uint8_t *p = base, *kept = base, *end = base + length; /* `kept`: what is not written yet begins here */
    int bits = 8;
    while (bits < MOST_HASH_BITS && (1 << bits) < length) bits++;
    memset(seen, 0, sizeof *seen << bits);
#define SLOT(word) seen[(word) * 0x1e35a7bdu >> (32 - bits)]
    for (uint32_t misses = 32; length > MARGIN && ++p <= end - MARGIN;) {
        uint32_t word = load32(p);
        const uint8_t *before = base + SLOT(word);
        SLOT(word) = (uint16_t)(p - base);
        if (load32(before) != word) {
            int64_t step = misses++ >> 5;
            if (end - MARGIN - p < step) break;
            p += step - 1; /* the loop moves on by one itself */
            continue;
        }
        misses = 32;
        if (p > kept) out = put_literal(out, kept, p - kept, true);
        int64_t same = 4 + same_bytes(before + 4, p + 4, end);
        out = put_copy(out, p - before, same);
        p += same;
        kept = p;
        if (p > end - MARGIN) break;
        SLOT(load32(p - 1)) = (uint16_t)(p - 1 - base);
        p--;
    }
#undef SLOT
    return kept < end ? put_literal(out, kept, end - kept, false) : out;
}

static void put_compressed(Out *out, const uint8_t *from, int64_t size) {
    put_varint(out, (uint64_t)size);
    uint16_t seen[1 << MOST_HASH_BITS];
    uint8_t *to = space_for(out, size + size / 6 + 64);
    if (!to) return;
    for (int64_t done = 0; done < size; done += BLOCK)
        to = snappy_block(from + done, size - done < BLOCK ? size - done : BLOCK, to, seen);
    out->size = to - out->bytes;
}

/* ------------------------------------------------------------------------------------------- Thrift's compact protocol */

enum { T_TRUE = 1, T_I16 = 4, T_I32 = 5, T_I64 = 6, T_BINARY = 8, T_LIST = 9, T_STRUCT = 12 };

/* A field's head. `last` is the number of the struct's field before, and moves on. */
static void field(Out *out, int *last, int number, int type) {
    put_byte(out, (uint8_t)((number - *last) << 4 | type));
    *last = number;
}

static void zigzag(Out *out, int64_t value) { put_varint(out, (uint64_t)value << 1 ^ (uint64_t)(value >> 63)); }

static void number_field(Out *out, int *last, int number, int type, int64_t value) {
    field(out, last, number, type);
    zigzag(out, value);
}

static void text_value(Out *out, const void *text, int64_t length) {
    put_varint(out, (uint64_t)length);
    put(out, text, length);
}

static void text_field(Out *out, int *last, int number, const void *text, int64_t length) {
    field(out, last, number, T_BINARY);
    text_value(out, text, length);
}

static void list_field(Out *out, int *last, int number, int64_t length, int type) {
    field(out, last, number, T_LIST);
    put_byte(out, (uint8_t)((length < 15 ? length : 15) << 4 | type));
    if (length >= 15) put_varint(out, (uint64_t)length);
}

static void end_struct(Out *out) { put_byte(out, 0); }

static void empty_struct_field(Out *out, int *last, int number) {
    field(out, last, number, T_STRUCT);
    end_struct(out);
}

/* ------------------------------------------------------------------------------------------------------------- columns */

enum Kind { TEXT, NUMBER_64, NUMBER_32 };
enum Meaning { ITSELF, DECIMAL_18_4, INSTANT, DATE };

/* The order of these is that of parquet.py. Arrow's layout: `values` has the numbers, or the offsets (int64) of the texts;
 * `validity` has a bit a value, from bit `validity_offset` on, or is NULL where no value is. Row i has the value at places[i],
 * or NULL where that is negative; the i-th value, where there are no places. */
typedef struct {
    const char *name;
    const void *values;
    const uint8_t *bytes, *validity;
    const int64_t *places;
    int64_t validity_offset, bytes_size;
    int32_t kind, meaning, nullable;
} ParquetColumn;

typedef struct {
    int64_t position, size, plain_size, dictionary_size, nulls, low, high;
    bool has_range;
} Chunk;

/* Where the value of a row is; negative where it is NULL. */
static int64_t place_of(const ParquetColumn *column, int64_t row) {
    int64_t place = column->places ? column->places[row] : row, bit = column->validity_offset + place;
    if (place < 0 || !column->validity) return place;
    return column->validity[bit >> 3] >> (bit & 7) & 1 ? place : -1;
}

static bool may_have_nulls(const ParquetColumn *column) { return column->nullable && (column->validity || column->places); }

static int64_t number_at(const ParquetColumn *column, int64_t place) {
    return column->kind == NUMBER_64 ? ((const int64_t *)column->values)[place] : ((const int32_t *)column->values)[place];
}

static int64_t length_at(const ParquetColumn *column, int64_t place) {
    const int64_t *offsets = column->values;
    return offsets[place + 1] - offsets[place];
}

static const uint8_t *text_at(const ParquetColumn *column, int64_t place) {
    return column->bytes + ((const int64_t *)column->values)[place];
}

static bool is_equal(const ParquetColumn *column, int64_t one, int64_t other) {
    if (column->kind != TEXT) return number_at(column, one) == number_at(column, other);
    int64_t length = length_at(column, one);
    return length == length_at(column, other) && !memcmp(text_at(column, one), text_at(column, other), (size_t)length);
}

static uint64_t hash_at(const ParquetColumn *column, int64_t place) {
    const uint64_t odd = 0x9E3779B97F4A7C15;
    if (column->kind != TEXT) return (uint64_t)number_at(column, place) * odd;
    const uint8_t *p = text_at(column, place);
    int64_t left = length_at(column, place);
    uint64_t hash = (uint64_t)left * odd, word = 0;
    for (; left >= 8; left -= 8, p += 8) hash = (hash ^ load64(p)) * odd, hash ^= hash >> 29;
    if (left) memcpy(&word, p, (size_t)left);
    return (hash ^ word) * odd;
}

/* ---------------------------------------------------------------------------------------------------------- dictionary */

/* What is put together for one column after another; its memory is used again. */
typedef struct {
    Out page, codes, firsts, slots;
    int64_t entries; /* of the dictionary: entry i is the value at firsts[i] */
    int64_t coded;   /* rows that are not NULL: codes[i] is the entry of the i-th */
} Scratch;

static bool make_slots(Scratch *scratch, int64_t count) {
    scratch->slots.size = 0;
    uint8_t *slots = space_for(&scratch->slots, count * 4);
    if (slots) memset(slots, 0xff, (size_t)count * 4);
    return slots != NULL;
}

/* The slot of a value in a table of so many bits; counts the steps to it. */
static int32_t *slot_of(const ParquetColumn *column, Scratch *scratch, int64_t place, int bits, int64_t *steps) {
    int32_t *slots = (int32_t *)scratch->slots.bytes;
    const int64_t *firsts = (const int64_t *)scratch->firsts.bytes;
    uint64_t mask = ((uint64_t)1 << bits) - 1, slot = hash_at(column, place) >> (64 - bits);
    for (;; slot = (slot + 1) & mask, ++*steps)
        if (slots[slot] < 0 || is_equal(column, firsts[slots[slot]], place)) return &slots[slot];
}

static bool grow_slots(const ParquetColumn *column, Scratch *scratch, int bits, int64_t *steps) {
    if (!make_slots(scratch, (int64_t)1 << bits)) return false;
    const int64_t *firsts = (const int64_t *)scratch->firsts.bytes;
    for (int32_t entry = 0; entry < scratch->entries; entry++) *slot_of(column, scratch, firsts[entry], bits, steps) = entry;
    return true;
}

/* The number of a value in the dictionary, where it gets one if it has none; -1 where memory ran out. */
static int32_t entry_of(const ParquetColumn *column, Scratch *scratch, int64_t place, int *bits, int64_t *steps) {
    int32_t *slot = slot_of(column, scratch, place, *bits, steps), entry = *slot;
    if (entry >= 0) return entry;
    *slot = entry = (int32_t)scratch->entries++;
    put(&scratch->firsts, &place, sizeof place);
    if (scratch->firsts.failed) return -1;
    if (2 * scratch->entries > (int64_t)1 << *bits && !grow_slots(column, scratch, ++*bits, steps)) return -1;
    return entry;
}

/* Gives each row that is not NULL the number of its value, counted as they come. False where that does not pay: values
 * hardly repeat, or are large; or where values were made to have the same hash. */
static bool encode_dictionary(const ParquetColumn *column, int64_t start, int64_t stop, Scratch *scratch) {
    int64_t steps = 0, size = 0, before = -1, coded = 0, known = 0;
    int bits = 8;
    while (bits < 20 && (int64_t)2 << bits < stop - start) bits++; /* room for as many entries as may pay, usually */
    scratch->entries = 0;
    scratch->codes.size = scratch->firsts.size = 0;
    int32_t *codes = (int32_t *)space_for(&scratch->codes, (stop - start) * 4), code = 0;
    if (!codes || !make_slots(scratch, (int64_t)1 << bits)) return false;
    for (int64_t row = start; row < stop; row++) {
        int64_t place = place_of(column, row);
        if (place < 0) continue;
        if (place != before && (before < 0 || !is_equal(column, before, place))) {
            code = entry_of(column, scratch, place, &bits, &steps);
            if (scratch->entries > known) {
                known = scratch->entries;
                size += column->kind == TEXT ? length_at(column, place) : 8;
                if (known > 256 + coded / 2 || size > DICTIONARY_BYTES) return false;
            }
            if (code < 0 || steps > 1024 + 16 * coded) return false;
        }
        before = place;
        codes[coded++] = code;
    }
    scratch->coded = coded;
    return 2 * scratch->entries <= coded && coded;
}

/* Numbers of so many bits, packed, or as runs of equal ones: whichever is shorter. Parquet's RLE hybrid. */
static void put_codes(Out *out, const int32_t *codes, int64_t count, int width) {
    int64_t runs = 0, bytes = (width + 7) / 8, groups = (count + 7) / 8;
    for (int64_t i = 0; i < count; i++) runs += i == 0 || codes[i] != codes[i - 1];
    if (runs * (bytes + 1) < groups * width) {
        for (int64_t i = 0, next; i < count; i = next) {
            for (next = i + 1; next < count && codes[next] == codes[i]; next++) {}
            put_varint(out, (uint64_t)(next - i) << 1);
            put_number(out, (uint64_t)codes[i], (int)bytes);
        }
        return;
    }
    put_varint(out, (uint64_t)groups << 1 | 1);
    uint8_t *to = space_for(out, groups * width + 8);
    if (!to) return;
    uint64_t held = 0;
    int bits = 0;
    for (int64_t i = 0; i < groups * 8; i++) {
        held |= (uint64_t)(i < count ? codes[i] : 0) << bits;
        for (bits += width; bits >= 8; bits -= 8, held >>= 8) *to++ = (uint8_t)held;
    }
    out->size += groups * width;
}

/* --------------------------------------------------------------------------------------------------------------- pages */

enum { PLAIN = 0, RLE = 3, RLE_DICTIONARY = 8, DATA_PAGE = 0, DICTIONARY_PAGE = 2, SNAPPY = 1 };

/* Which of these rows are not NULL; nothing where the column has none by its schema. `nulls`: whether there may be any. */
static void put_levels(Out *out, const ParquetColumn *column, int64_t start, int64_t stop, bool nulls) {
    int64_t valid = stop - start, at = out->size, groups = (valid + 7) / 8;
    if (!column->nullable) return;
    put_number(out, 0, 4);
    put_varint(out, (uint64_t)groups << 1 | 1);
    uint8_t *bits = space_for(out, groups);
    if (!bits) return;
    if (nulls) {
        memset(bits, 0, (size_t)groups);
        for (int64_t row = start; row < stop; row++) {
            bool is_valid = place_of(column, row) >= 0;
            bits[(row - start) >> 3] |= (uint8_t)(is_valid << ((row - start) & 7));
            valid -= !is_valid;
        }
    }
    if (valid == 0 || valid == stop - start) { /* all alike: a run instead */
        out->size = at + 4;
        put_varint(out, (uint64_t)(stop - start) << 1);
        put_byte(out, valid > 0);
    } else {
        out->size += groups;
    }
    int64_t length = out->size - at - 4;
    if (!out->failed) memcpy(out->bytes + at, &length, 4);
}

/* Texts with their lengths. Short ones are copied with 16 bytes at once, where so many are there to be read. */
static void put_texts(Out *out, const ParquetColumn *column, const int64_t *places, int64_t start, int64_t stop) {
    const uint8_t *last = column->bytes + column->bytes_size - 16;
    for (int64_t row = start; row < stop; row++) {
        int64_t place = places ? places[row] : place_of(column, row);
        if (place < 0) continue;
        const uint8_t *text = text_at(column, place);
        int64_t length = length_at(column, place);
        uint8_t *to = space_for(out, length + 20);
        if (!to) return;
        memcpy(to, &length, 4);
        if (length <= 16 && column->bytes_size >= 16 && text <= last) memcpy(to + 4, text, 16);
        else if (length) memcpy(to + 4, text, (size_t)length);
        out->size += length + 4;
    }
}

static void put_numbers(Out *out, const ParquetColumn *column, const int64_t *places, int64_t start, int64_t stop) {
    int size = column->kind == NUMBER_64 ? 8 : 4;
    if (!places && !column->places && !column->validity) {
        put(out, (const uint8_t *)column->values + start * size, (stop - start) * size);
        return;
    }
    uint8_t *begin = space_for(out, (stop - start) * size), *to = begin;
    if (!to) return;
    for (int64_t row = start; row < stop; row++) {
        int64_t place = places ? places[row] : place_of(column, row);
        if (place < 0) continue;
        memcpy(to, (const uint8_t *)column->values + place * size, (size_t)size);
        to += size;
    }
    out->size += to - begin;
}

/* The values of some rows, or of some places, that are not NULL. */
static void put_values(Out *out, const ParquetColumn *column, const int64_t *places, int64_t start, int64_t stop) {
    if (column->kind == TEXT) put_texts(out, column, places, start, stop);
    else put_numbers(out, column, places, start, stop);
}

/* Compresses what `page` holds, behind a head. */
static void end_page(Out *out, Out *page, int type, int64_t values, int encoding, Out *compressed, Chunk *chunk) {
    compressed->size = 0;
    put_compressed(compressed, page->bytes, page->size);
    int64_t begin = out->size;
    int last = 0, inner = 0;
    number_field(out, &last, 1, T_I32, type);
    number_field(out, &last, 2, T_I32, page->size);
    number_field(out, &last, 3, T_I32, compressed->size);
    field(out, &last, type == DATA_PAGE ? 5 : 7, T_STRUCT);
    number_field(out, &inner, 1, T_I32, values);
    number_field(out, &inner, 2, T_I32, encoding);
    if (type == DATA_PAGE) {
        number_field(out, &inner, 3, T_I32, RLE); /* how definition levels, and repetition levels, are written */
        number_field(out, &inner, 4, T_I32, RLE);
    }
    end_struct(out);
    end_struct(out);
    chunk->plain_size += out->size - begin + page->size;
    put(out, compressed->bytes, compressed->size);
    out->failed |= page->failed || compressed->failed;
    page->size = 0;
}

static int width_of(int64_t entries) {
    int width = 1;
    while ((int64_t)1 << width < entries) width++;
    return width;
}

/* The end of a page of plain values that begins at a row. */
static int64_t page_stop(const ParquetColumn *column, int64_t start, int64_t stop) {
    if (column->kind != TEXT) return stop - start > PAGE_BYTES / 8 ? start + PAGE_BYTES / 8 : stop;
    for (int64_t row = start, size = 0; row < stop; row++) {
        int64_t place = place_of(column, row);
        size += 4 + (place < 0 ? 0 : length_at(column, place));
        if (size > PAGE_BYTES && row > start) return row;
    }
    return stop;
}

static void widen(const ParquetColumn *column, int64_t place, Chunk *chunk) {
    int64_t value = number_at(column, place);
    if (!chunk->has_range || value < chunk->low) chunk->low = value;
    if (!chunk->has_range || value > chunk->high) chunk->high = value;
    chunk->has_range = true;
}

static void count_rows(const ParquetColumn *column, int64_t start, int64_t stop, Chunk *chunk) {
    if (column->kind == TEXT && !may_have_nulls(column)) return;
    for (int64_t row = start; row < stop; row++) {
        int64_t place = place_of(column, row);
        if (place < 0) chunk->nulls++;
        else if (column->kind != TEXT) widen(column, place, chunk);
    }
}

static void count_entries(const ParquetColumn *column, int64_t rows, const Scratch *scratch, Chunk *chunk) {
    const int64_t *firsts = (const int64_t *)scratch->firsts.bytes;
    chunk->nulls = rows - scratch->coded;
    for (int64_t i = 0; i < scratch->entries && column->kind != TEXT; i++) widen(column, firsts[i], chunk);
}

static Chunk put_chunk(Out *out, const ParquetColumn *column, int64_t start, int64_t stop, Scratch *scratch, Out *compressed) {
    Chunk chunk = {.position = out->size};
    Out *page = &scratch->page;
    page->size = 0;
    if (encode_dictionary(column, start, stop, scratch)) {
        count_entries(column, stop - start, scratch, &chunk);
        const int64_t *firsts = (const int64_t *)scratch->firsts.bytes;
        put_values(page, column, firsts, 0, scratch->entries);
        end_page(out, page, DICTIONARY_PAGE, scratch->entries, PLAIN, compressed, &chunk);
        chunk.dictionary_size = out->size - chunk.position;
        put_levels(page, column, start, stop, chunk.nulls);
        put_byte(page, (uint8_t)width_of(scratch->entries));
        put_codes(page, (const int32_t *)scratch->codes.bytes, scratch->coded, width_of(scratch->entries));
        end_page(out, page, DATA_PAGE, stop - start, RLE_DICTIONARY, compressed, &chunk);
    } else {
        count_rows(column, start, stop, &chunk);
        for (int64_t row = start, next; row < stop; row = next) {
            next = page_stop(column, row, stop);
            put_levels(page, column, row, next, chunk.nulls);
            put_values(page, column, NULL, row, next);
            end_page(out, page, DATA_PAGE, next - row, PLAIN, compressed, &chunk);
        }
    }
    out->failed |= scratch->codes.failed || scratch->firsts.failed || scratch->slots.failed;
    chunk.size = out->size - chunk.position;
    return chunk;
}

/* --------------------------------------------------------------------------------------------------------------- files */

/* A file on its way: its bytes so far, the columns that it has, and their chunks, row group by row group. */
typedef struct {
    Out out, chunks;
    const int32_t *chosen; /* which of the columns */
    int64_t count;
} File;

static const int physical[] = {[TEXT] = 6, [NUMBER_64] = 2, [NUMBER_32] = 1};

static void put_schema_element(Out *out, const ParquetColumn *column) {
    int last = 0, inner = 0, innermost = 0;
    number_field(out, &last, 1, T_I32, physical[column->kind]);
    number_field(out, &last, 3, T_I32, column->nullable); /* REQUIRED, OPTIONAL */
    text_field(out, &last, 4, column->name, (int64_t)strlen(column->name));
    if (column->kind == TEXT) {
        number_field(out, &last, 6, T_I32, 0); /* UTF8, the old way to say it */
        field(out, &last, 10, T_STRUCT);
        empty_struct_field(out, &inner, 1);
        end_struct(out);
    } else if (column->meaning == DECIMAL_18_4) {
        number_field(out, &last, 6, T_I32, 5);
        number_field(out, &last, 7, T_I32, 4);
        number_field(out, &last, 8, T_I32, 18);
        field(out, &last, 10, T_STRUCT);
        field(out, &inner, 5, T_STRUCT);
        number_field(out, &innermost, 1, T_I32, 4);
        number_field(out, &innermost, 2, T_I32, 18);
        end_struct(out);
        end_struct(out);
    } else if (column->meaning == INSTANT) {
        number_field(out, &last, 6, T_I32, 10); /* TIMESTAMP_MICROS */
        field(out, &last, 10, T_STRUCT);
        field(out, &inner, 8, T_STRUCT);
        field(out, &innermost, 1, T_TRUE); /* an instant, in UTC */
        field(out, &innermost, 2, T_STRUCT);
        int unit = 0;
        empty_struct_field(out, &unit, 2); /* microseconds */
        end_struct(out);
        end_struct(out);
        end_struct(out);
    } else if (column->meaning == DATE) {
        number_field(out, &last, 6, T_I32, 6);
        field(out, &last, 10, T_STRUCT);
        empty_struct_field(out, &inner, 6);
        end_struct(out);
    }
    end_struct(out);
}

static void put_column_chunk(Out *out, const ParquetColumn *column, const Chunk *chunk, int64_t rows) {
    int outer = 0, last = 0, inner = 0;
    number_field(out, &outer, 2, T_I64, 0); /* where its metadata is repeated: nowhere */
    field(out, &outer, 3, T_STRUCT);
    number_field(out, &last, 1, T_I32, physical[column->kind]);
    list_field(out, &last, 2, chunk->dictionary_size ? 3 : 2, T_I32);
    zigzag(out, PLAIN);
    zigzag(out, RLE);
    if (chunk->dictionary_size) zigzag(out, RLE_DICTIONARY);
    list_field(out, &last, 3, 1, T_BINARY);
    text_value(out, column->name, (int64_t)strlen(column->name));
    number_field(out, &last, 4, T_I32, SNAPPY);
    number_field(out, &last, 5, T_I64, rows);
    number_field(out, &last, 6, T_I64, chunk->plain_size);
    number_field(out, &last, 7, T_I64, chunk->size);
    number_field(out, &last, 9, T_I64, chunk->position + chunk->dictionary_size);
    if (chunk->dictionary_size) number_field(out, &last, 11, T_I64, chunk->position);
    field(out, &last, 12, T_STRUCT);
    number_field(out, &inner, 3, T_I64, chunk->nulls);
    if (chunk->has_range) {
        int size = column->kind == NUMBER_64 ? 8 : 4;
        text_field(out, &inner, 5, &chunk->high, size);
        text_field(out, &inner, 6, &chunk->low, size);
    }
    end_struct(out);
    end_struct(out);
    end_struct(out);
}

static void put_row_group(Out *out, const File *file, const ParquetColumn *columns, int64_t group, int64_t rows) {
    const Chunk *chunks = (const Chunk *)file->chunks.bytes + group * file->count;
    int64_t size = 0, plain_size = 0;
    int last = 0;
    list_field(out, &last, 1, file->count, T_STRUCT);
    for (int64_t i = 0; i < file->count; i++) {
        put_column_chunk(out, &columns[file->chosen[i]], &chunks[i], rows);
        size += chunks[i].size;
        plain_size += chunks[i].plain_size;
    }
    number_field(out, &last, 2, T_I64, plain_size);
    number_field(out, &last, 3, T_I64, rows);
    number_field(out, &last, 5, T_I64, chunks[0].position);
    number_field(out, &last, 6, T_I64, size);
    number_field(out, &last, 7, T_I16, group);
    end_struct(out);
}

static int64_t rows_of_group(int64_t rows, int64_t group) {
    int64_t left = rows - group * ROWS_TOGETHER;
    return left < ROWS_TOGETHER ? left : ROWS_TOGETHER;
}

static void end_file(File *file, const ParquetColumn *columns, int64_t rows) {
    Out *out = &file->out;
    int64_t begin = out->size, groups = (rows + ROWS_TOGETHER - 1) / ROWS_TOGETHER;
    int last = 0, root = 0;
    number_field(out, &last, 1, T_I32, 2);
    list_field(out, &last, 2, file->count + 1, T_STRUCT);
    text_field(out, &root, 4, "schema", 6);
    number_field(out, &root, 5, T_I32, file->count);
    end_struct(out);
    for (int64_t i = 0; i < file->count; i++) put_schema_element(out, &columns[file->chosen[i]]);
    number_field(out, &last, 3, T_I64, rows);
    list_field(out, &last, 4, groups, T_STRUCT);
    for (int64_t group = 0; group < groups && !file->chunks.failed; group++)
        put_row_group(out, file, columns, group, rows_of_group(rows, group));
    text_field(out, &last, 6, CREATED_BY, (int64_t)strlen(CREATED_BY));
    list_field(out, &last, 7, file->count, T_STRUCT);
    for (int64_t i = 0; i < file->count; i++) { /* how statistics compare: as the type does */
        int order = 0;
        empty_struct_field(out, &order, 1);
        end_struct(out);
    }
    end_struct(out);
    put_number(out, (uint64_t)(out->size - begin), 4);
    put(out, "PAR1", 4);
    out->failed |= file->chunks.failed;
}

/* The bytes of a file, for the caller, who releases them with strandline_release_bytes. */
typedef struct {
    uint8_t *bytes;
    int64_t size;
} Bytes;

/* Writes rows `start` to `stop` of a table; and into `some`, if there are any `chosen`, those of its columns, in that order.
 * 0, or -1 where memory ran out; then there is nothing to release. */
int strandline_parquet(const ParquetColumn *columns, int64_t count, int64_t start, int64_t stop, const int32_t *chosen,
                       int64_t chosen_count, Bytes *all, Bytes *some) {
    Scratch scratch = {0};
    Out compressed = {0};
    int32_t every[64];
    if (count > 64) return -1;
    for (int32_t i = 0; i < count; i++) every[i] = i;
    File whole = {.chosen = every, .count = count}, part = {.chosen = chosen, .count = chosen_count};
    put(&whole.out, "PAR1", 4);
    if (chosen_count) put(&part.out, "PAR1", 4);
    for (int64_t row = start; row < stop; row += ROWS_TOGETHER) {
        int64_t next = stop - row < ROWS_TOGETHER ? stop : row + ROWS_TOGETHER, first = whole.chunks.size;
        for (int64_t i = 0; i < count; i++) {
            Chunk chunk = put_chunk(&whole.out, &columns[i], row, next, &scratch, &compressed);
            put(&whole.chunks, &chunk, sizeof chunk);
        }
        for (int64_t i = 0; i < chosen_count && !whole.out.failed && !whole.chunks.failed; i++) {
            Chunk chunk = ((const Chunk *)(whole.chunks.bytes + first))[chosen[i]];
            const uint8_t *from = whole.out.bytes + chunk.position;
            chunk.position = part.out.size;
            put(&part.out, from, chunk.size);
            put(&part.chunks, &chunk, sizeof chunk);
        }
    }
    end_file(&whole, columns, stop - start);
    if (chosen_count) end_file(&part, columns, stop - start);
    bool failed = whole.out.failed || part.out.failed;
    Out *left[] = {&scratch.page, &scratch.codes, &scratch.firsts, &scratch.slots, &compressed, &whole.chunks, &part.chunks};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) free(left[i]->bytes);
    if (failed) {
        free(whole.out.bytes);
        free(part.out.bytes);
        return -1;
    }
    *all = (Bytes){whole.out.bytes, whole.out.size};
    *some = (Bytes){part.out.bytes, part.out.size};
    return 0;
}

void strandline_release_bytes(Bytes *content) {
    free(content->bytes);
    *content = (Bytes){0};
}
