/* Loads from a working set of SET bytes, a cache line each: along a random cycle through all lines,
 * each load's address being what the one before gave (PATTERN 0), or one line after another
 * (PATTERN 1). The first call only makes the cycle. */
#include "bench.h"

enum { LINE = 64, LINES = SET / LINE, LOADS = 1 << 20 };

static struct line {
	struct line *next;
	char rest[LINE - sizeof(void *)];
} lines[LINES];

/* Sattolo's algorithm: one cycle through all. */
static void shuffle(void)
{
	uint32_t seed = 1;

	for (uint32_t i = 0; i < LINES; i++)
		lines[i].next = &lines[i];
	for (uint32_t i = LINES - 1; i; i--) {
		uint32_t j = next_random(&seed) % i;
		struct line *other = lines[j].next;

		lines[j].next = lines[i].next;
		lines[i].next = other;
	}
}

uint64_t bench(void)
{
	static int calls;
	uint64_t sum = 0;

	if (!calls++) {
		shuffle();
		return 0;
	}
	if (PATTERN == 0) {
		const struct line *here = lines;

		for (int i = 0; i < LOADS; i++)
			here = here->next;
		return (uint64_t)(here - lines);
	}
	for (int i = 0; i < LOADS; i++)
		sum += (uint64_t)((volatile struct line *)lines)[i % LINES].next;
	return sum - sum;
}
