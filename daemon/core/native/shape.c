/* The shape of records: their keys, without their values. Records of one shape have one hash, so that a few of them show the keys
 * of all (shapes.py). Reads any bytes, and nothing after `stop`: what is no JSON has a hash, too, that means nothing. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef const uint8_t *Text;

/* Keys of a record (as they are written, in quotes) whose values have keys that are read. */
typedef struct {
    const char **names;
    const int64_t *lengths;
    int64_t count;
} Inner;

enum { MOST_LEVELS = 64, MOST_KINDS = 16 };
static const uint64_t OBJECT = 0x9E3779B97F4A7C15, ARRAY = 0xC2B2AE3D27D4EB4F;

static uint64_t mixed(uint64_t hash, uint64_t with) {
    hash = (hash ^ with) * 0xFF51AFD7ED558CCD;
    return hash ^ hash >> 32;
}

static uint64_t hash_of(Text p, Text stop) {
    uint64_t hash = (uint64_t)(stop - p), word;
    for (; stop - p >= 8; p += 8) {
        memcpy(&word, p, 8);
        hash = mixed(hash, word);
    }
    word = 0;
    memcpy(&word, p, (size_t)(stop - p));
    return mixed(hash, word);
}

static Text beyond(Text p, Text stop) { /* white space, and what divides values */
    while (p < stop && (*p <= ' ' || *p == ',' || *p == ':')) p++;
    return p;
}

/* The next quote or escape, or `stop`. */
static inline Text special(Text p, Text stop) {
#ifdef __SSE2__
    for (; stop - p >= 16; p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)p);
        __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), escape = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        int mask = _mm_movemask_epi8(_mm_or_si128(quote, escape));
        if (mask) return p + __builtin_ctz((unsigned)mask);
    }
#endif
    while (p < stop && *p != '"' && *p != '\\') p++;
    return p;
}

/* A string, from after its opening quote to after its closing one. */
static inline Text string(Text p, Text stop) {
    while ((p = special(p, stop)) < stop) {
        if (*p == '"') return p + 1;
        if (stop - p < 2) break;
        p += 2;
    }
    return stop;
}

/* Any value. */
static Text skipped(Text p, Text stop) {
    int64_t open = 0;
    while (p < stop) {
        uint8_t byte = *p++;
        if (byte == '"') p = string(p, stop);
        else if (byte == '{' || byte == '[') open++;
        else if (byte == '}' || byte == ']') open--;
        else if (!open) while (p < stop && *p > ' ' && *p != ',' && *p != '}' && *p != ']') p++;
        if (open <= 0) return p;
    }
    return stop;
}

static bool is_inner(Text key, int64_t length, const Inner *inner) {
    for (int64_t i = 0; i < inner->count; i++)
        if (inner->lengths[i] == length && !memcmp(inner->names[i], key, (size_t)length)) return true;
    return false;
}

/* The hash of a value; moves `at` behind it. `inner`: of a record; else the keys of all objects in it count. The elements of an
 * array count once for each shape, in any order. */
static uint64_t shape(Text *at, Text stop, int level, const Inner *inner) {
    Text p = *at;
    bool object = p < stop && *p == '{';
    if (p >= stop || (!object && *p != '[') || level == MOST_LEVELS) {
        *at = skipped(p, stop);
        return 1;
    }
    uint64_t hash = object ? OBJECT : ARRAY, kinds[MOST_KINDS];
    int count = 0;
    for (p = beyond(p + 1, stop); p < stop && *p != '}' && *p != ']'; p = beyond(p, stop)) {
        bool enters = !inner;
        if (object) {
            Text key = p;
            if (*p != '"') break;
            p = string(p + 1, stop);
            hash = mixed(hash, hash_of(key, p));
            enters = enters || is_inner(key, p - key, inner);
            p = beyond(p, stop);
        }
        if (!enters) {
            p = skipped(p, stop);
            continue;
        }
        uint64_t found = shape(&p, stop, level + 1, NULL);
        if (object) {
            hash = mixed(hash, found);
            continue;
        }
        bool known = false;
        for (int i = 0; i < count; i++) known |= kinds[i] == found;
        if (known) continue;
        if (count < MOST_KINDS) kinds[count++] = found;
        hash += mixed(ARRAY, found);
    }
    *at = p < stop ? p + 1 : stop;
    return hash;
}

/* The hash of each record's shape: record i is blob[starts[i]:stops[i]]. */
void strandline_shapes(Text blob, const int64_t *starts, const int64_t *stops, int64_t count, const Inner *inner, uint64_t *hashes) {
    for (int64_t i = 0; i < count; i++) {
        Text p = blob + starts[i];
        hashes[i] = shape(&p, blob + stops[i], 0, inner);
    }
}
