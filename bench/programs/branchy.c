/* Branches that depend on data: lengths of Collatz sequences, and a chain of comparisons. */
#include "bench.h"

static unsigned collatz(uint64_t n)
{
	unsigned steps = 0;

	while (n != 1) {
		n = n & 1 ? 3 * n + 1 : n / 2;
		steps++;
	}
	return steps;
}

static unsigned classify(uint32_t x)
{
	if (x % 3 == 0)
		return x & 4 ? 1 : 2;
	if (x % 5 == 0)
		return x & 8 ? 3 : x & 16 ? 4 : 5;
	if (x > 0x80000000u)
		return x % 7 < 3 ? 6 : 7;
	return x & 1 ? 8 : 9;
}

uint64_t bench(void)
{
	uint64_t sum = 0;
	uint32_t seed = 1;
	unsigned counts[10] = { 0 };

	for (unsigned n = 1; n < 350000; n++)
		sum += collatz(n) * (n & 7);
	for (unsigned i = 0; i < 3000000; i++)
		counts[classify(next_random(&seed))]++;
	for (unsigned i = 0; i < 10; i++)
		sum = mix(sum, counts[i]);
	return sum;
}
