/* Rows in another order: what numpy's and Arrow's `take` do, for the few shapes that matter here, some times faster.
 *
 * The caller makes the room. An `order` names places within what it is taken from; nothing is checked here.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RADIX_BITS = 11, RADIX = 1 << RADIX_BITS };
enum { STEP = 32 }; /* native.SPARE_BYTES */

/* Copies some bytes in steps of known length, which are no call: most copies here are short. Up to STEP - 1 bytes more are copied
 * than asked for, if the source has them; `out` must have room. */
static inline void copy(uint8_t *out, const uint8_t *from, int64_t length, const uint8_t *end) {
    if (end - from < length + STEP) {
        if (length) memcpy(out, from, (size_t)length);
    } else {
        for (int64_t done = 0; done < length; done += STEP) memcpy(out + done, from + done, STEP);
    }
}

/* Copies the rows `order[i]`, of so many bytes each. A copy of known length is no call. */
void strandline_take_rows(const uint8_t *rows, int64_t width, const int64_t *order, int64_t count, uint8_t *out) {
    switch (width) {
    case 8: for (int64_t i = 0; i < count; i++) memcpy(out + 8 * i, rows + 8 * order[i], 8); break;
    case 16: for (int64_t i = 0; i < count; i++) memcpy(out + 16 * i, rows + 16 * order[i], 16); break;
    default: for (int64_t i = 0; i < count; i++) memcpy(out + width * i, rows + width * order[i], (size_t)width);
    }
}

/* Copies the runs `order[i]` of rows, one after the other, out of `size` bytes; run i is the rows bounds[i] to bounds[i + 1].
 * `out` has STEP bytes to spare. */
void strandline_take_runs(const uint8_t *rows, int64_t size, int64_t width, const int64_t *bounds, const int64_t *order,
                          int64_t count, uint8_t *out) {
    for (int64_t i = 0; i < count; i++) {
        int64_t first = bounds[order[i]], bytes = (bounds[order[i] + 1] - first) * width;
        copy(out, rows + first * width, bytes, rows + size);
        out += bytes;
    }
}

/* The offsets of the texts of the runs `order[i]`, laid one after the other, so that the caller can make room for them. Without
 * `bounds`, run i is text i. */
void strandline_text_offsets(const int64_t *offsets, const int64_t *bounds, const int64_t *order, int64_t count, int64_t *out) {
    int64_t end = *out++ = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t first = bounds ? bounds[order[i]] : order[i], stop = bounds ? bounds[order[i] + 1] : first + 1;
        for (int64_t text = first; text < stop; text++) *out++ = end += offsets[text + 1] - offsets[text];
    }
}

/* Copies these texts, out of `size` bytes. `out` has STEP bytes to spare. */
void strandline_copy_texts(const int64_t *offsets, const uint8_t *bytes, int64_t size, const int64_t *bounds, const int64_t *order,
                           int64_t count, uint8_t *out) {
    for (int64_t i = 0; i < count; i++) {
        int64_t first = bounds ? bounds[order[i]] : order[i], stop = bounds ? bounds[order[i] + 1] : first + 1;
        int64_t from = offsets[first], length = offsets[stop] - from;
        copy(out, bytes + from, length, bytes + size);
        out += length;
    }
}

/* The order in which values ascend, equal ones as they stand: a radix sort of what is above the least of them, since instants
 * of one piece differ in few bits. 0, or -1 where memory ran out. */
int strandline_ascending(const int64_t *values, int64_t count, int64_t *order) {
    typedef struct {
        uint64_t value;
        int64_t place;
    } Row;
    Row *rows = malloc(2 * (size_t)count * sizeof(Row) + 1), *sorted = rows + count;
    if (!rows) return -1;
    int64_t least = INT64_MAX;
    uint64_t used = 0;
    for (int64_t i = 0; i < count; i++) if (values[i] < least) least = values[i];
    for (int64_t i = 0; i < count; i++) {
        rows[i] = (Row){(uint64_t)values[i] - (uint64_t)least, i};
        used |= rows[i].value;
    }
    for (int shift = 0; shift < 64 && used >> shift; shift += RADIX_BITS) {
        int64_t next[RADIX] = {0}, start = 0;
        for (int64_t i = 0; i < count; i++) next[rows[i].value >> shift & (RADIX - 1)]++;
        for (int digit = 0; digit < RADIX; digit++) {
            int64_t many = next[digit];
            next[digit] = start;
            start += many;
        }
        for (int64_t i = 0; i < count; i++) sorted[next[rows[i].value >> shift & (RADIX - 1)]++] = rows[i];
        Row *other = rows;
        rows = sorted;
        sorted = other;
    }
    for (int64_t i = 0; i < count; i++) order[i] = rows[i].place;
    free(rows < sorted ? rows : sorted);
    return 0;
}
