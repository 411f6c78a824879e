/* Linked into a test build of the C, which calls these: how much it works, and where an allocation fails. Compiled apart, so that
 * it is not counted itself. See tests/support/counted.py. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t counted_steps;       /* basic blocks that were executed */
int64_t counted_allocations; /* calls of realloc */
int64_t counted_live;        /* blocks of memory that are not freed */
int64_t counted_failing;     /* the allocation with this number fails; 0: none does */
int64_t counted_lasting;     /* not 0: so do all after it */

void __sanitizer_cov_trace_pc(void) { counted_steps++; } /* -fsanitize-coverage=trace-pc */

void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);

void *__wrap_realloc(void *memory, size_t size) { /* -Wl,--wrap=realloc */
    int64_t number = ++counted_allocations;
    bool fails = counted_failing && (number == counted_failing || (counted_lasting && number > counted_failing));
    void *found = fails ? NULL : __real_realloc(memory, size);
    counted_live += !memory && found;
    return found;
}

void __wrap_free(void *memory) {
    counted_live -= memory != NULL;
    __real_free(memory);
}
