/* What a program and the two runtimes, bare and native, have of each other. */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

/* The program: does its work and returns a checksum, the same on every machine. It is called
 * several times, and may go on from what the call before has left. */
uint64_t bench(void);

/* A small generator: the same numbers everywhere. */
static inline uint32_t next_random(uint32_t *state)
{
	uint32_t x = *state;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *state = x;
}

/* Mixes a value into a checksum. */
static inline uint64_t mix(uint64_t sum, uint64_t value)
{
	sum ^= value + 0x9e3779b97f4a7c15u + (sum << 6) + (sum >> 2);
	return sum * 0xff51afd7ed558ccdu;
}

/* What both runtimes time, one after another: so many calls as whoever compiles says. */
static const int bench_phases[] = { BENCH_PHASES };

enum { PHASES = sizeof(bench_phases) / sizeof(*bench_phases) };

static inline uint64_t bench_rounds(int rounds)
{
	uint64_t sum = 0;

	for (int round = 0; round < rounds; round++)
		sum = mix(sum, bench());
	return sum;
}

#endif
