/* Calls and returns: Fibonacci, Ackermann, and the queens of a chess board. */
#include "bench.h"

static unsigned fib(unsigned n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static unsigned ackermann(unsigned m, unsigned n)
{
	if (m == 0)
		return n + 1;
	if (n == 0)
		return ackermann(m - 1, 1);
	return ackermann(m - 1, ackermann(m, n - 1));
}

static unsigned queens(unsigned rows, unsigned columns, unsigned left, unsigned right)
{
	unsigned found = 0, free = rows & ~(columns | left | right);

	if (columns == rows)
		return 1;
	while (free) {
		unsigned place = free & -free;

		free ^= place;
		found += queens(rows, columns | place, (left | place) << 1, (right | place) >> 1);
	}
	return found;
}

uint64_t bench(void)
{
	return mix(mix(fib(37), ackermann(2, 3000)), queens((1u << 11) - 1, 0, 0, 0));
}
