/* Prime numbers by Eratosthenes. */
#include "bench.h"

enum { LIMIT = 400000, ROUNDS = 22 };

static uint8_t composite[LIMIT];

uint64_t bench(void)
{
	uint64_t sum = 0;

	for (int round = 0; round < ROUNDS; round++) {
		unsigned count = 0;

		for (unsigned i = 0; i < LIMIT; i++)
			composite[i] = 0;
		for (unsigned i = 2; i < LIMIT; i++) {
			if (composite[i])
				continue;
			count++;
			for (unsigned j = 2 * i; j < LIMIT; j += i)
				composite[j] = 1;
		}
		sum = mix(sum, count);
	}
	return sum;
}
