/* Runs a program as a process: the same lines as the bare runtime's, without instructions. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "bench.h"

static void run_phase(int rounds)
{
	struct timespec start, end;
	uint64_t sum;

	clock_gettime(CLOCK_MONOTONIC, &start);
	sum = bench_rounds(rounds);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%016" PRIx64 " %016" PRIx64 " %016x\n", sum,
	       (uint64_t)((end.tv_sec - start.tv_sec) * 10000000 +
			  (end.tv_nsec - start.tv_nsec) / 100), 0);
}

int main(void)
{
	for (int phase = 0; phase < PHASES; phase++)
		run_phase(bench_phases[phase]);
	return 0;
}
