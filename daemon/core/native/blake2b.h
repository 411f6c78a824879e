/* BLAKE2b (RFC 7693), unkeyed, 16 bytes, as in values.order_key; of LANES texts at once, since each step of a single text waits
 * for the one before. Portable: compilers map the vectors to the registers of a machine. */
#include <stdint.h>
#include <string.h>

enum { LANES = 2, BLOCK = 128 }; /* texts that are hashed at once; bytes of a block, and zeros after each text */

typedef uint64_t Words __attribute__((vector_size(8 * LANES))); /* one word of each text */

/* Rotation to the right, by half and by a quarter of a word where that is a shuffle: one or two instructions, not three. */
#define ROTATED(word, by) ((word) >> (by) | (word) << (64 - (by)))
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
typedef uint32_t Halves __attribute__((vector_size(8 * LANES)));
typedef uint16_t Quarters __attribute__((vector_size(8 * LANES)));
#define ROTATED_HALF(word) ((Words)__builtin_shufflevector((Halves)(word), (Halves)(word), 1, 0, 3, 2))
#define ROTATED_QUARTER(word) ((Words)__builtin_shufflevector((Quarters)(word), (Quarters)(word), 1, 2, 3, 0, 5, 6, 7, 4))
#endif
#endif
#ifndef ROTATED_HALF
#define ROTATED_HALF(word) ROTATED(word, 32)
#define ROTATED_QUARTER(word) ROTATED(word, 16)
#endif

static inline uint64_t eight_bytes(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* Each text is followed by BLOCK zeros. */
static void hash_texts(const uint8_t *const *texts, const int64_t *lengths, uint8_t *const *digests) {
    static const uint64_t start[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                      0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
    static const uint8_t sigma[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
    Words state[8], work[16], message[16];
    int64_t longest = 0;
    for (int i = 0; i < 8; i++) state[i] = (Words){0} + start[i];
    state[0] ^= 0x01010000 ^ 16;
    for (int lane = 0; lane < LANES; lane++) if (lengths[lane] > longest) longest = lengths[lane];
    for (int64_t begin = 0; begin == 0 || begin < longest; begin += BLOCK) {
        Words counted, last, open; /* by text: bytes hashed so far; all ones if this block is its last; if it has one */
        const uint8_t *blocks[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            int64_t left = lengths[lane] - begin, taken = left < 0 ? 0 : left > BLOCK ? BLOCK : left;
            blocks[lane] = texts[lane] + (taken ? begin : 0); /* without a block: any, which is not counted */
            counted[lane] = (uint64_t)(begin + taken);
            last[lane] = left <= BLOCK ? ~0ULL : 0;
            open[lane] = begin == 0 || left > 0 ? ~0ULL : 0;
        }
        for (int i = 0; i < 16; i++)
            for (int lane = 0; lane < LANES; lane++) message[i][lane] = eight_bytes(blocks[lane] + 8 * i);
        memcpy(work, state, sizeof state);
        for (int i = 0; i < 8; i++) work[i + 8] = (Words){0} + start[i];
        work[12] ^= counted;
        work[14] ^= last;
#define MIX(a, b, c, d, i)                            \
    work[a] += work[b] + message[order[2 * (i)]];     \
    work[d] = ROTATED_HALF(work[d] ^ work[a]);        \
    work[c] += work[d];                               \
    work[b] = ROTATED(work[b] ^ work[c], 24);         \
    work[a] += work[b] + message[order[2 * (i) + 1]]; \
    work[d] = ROTATED_QUARTER(work[d] ^ work[a]);     \
    work[c] += work[d];                               \
    work[b] = ROTATED(work[b] ^ work[c], 63);
        for (int round = 0; round < 12; round++) {
            const uint8_t *order = sigma[round % 10];
            MIX(0, 4, 8, 12, 0) MIX(1, 5, 9, 13, 1) MIX(2, 6, 10, 14, 2) MIX(3, 7, 11, 15, 3)
            MIX(0, 5, 10, 15, 4) MIX(1, 6, 11, 12, 5) MIX(2, 7, 8, 13, 6) MIX(3, 4, 9, 14, 7)
        }
#undef MIX
        for (int i = 0; i < 8; i++) state[i] ^= (work[i] ^ work[i + 8]) & open;
    }
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t digest[2] = {state[0][lane], state[1][lane]};
        memcpy(digests[lane], digest, 16);
    }
}
