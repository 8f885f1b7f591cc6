/* The same work on each of HARTS harts at once: on memory of their own (SHARED 0), or all under one
 * lock (SHARED 1). Hart 0 calls `bench`, and the others follow it. */
#include <stdatomic.h>

#include "bench.h"

enum { OWN_ROUNDS = 200000, LOCK_ROUNDS = 4000000, WORDS = 1024 };

static _Alignas(64) atomic_uint round_number;
static _Alignas(64) atomic_uint finished;
static _Alignas(64) atomic_flag lock = ATOMIC_FLAG_INIT;
static _Alignas(64) uint64_t counter;
static _Alignas(64) uint64_t words[HARTS][WORDS];

static void own(unsigned hart)
{
	uint64_t *mine = words[hart];

	for (int round = 0; round < OWN_ROUNDS; round++)
		for (int i = 0; i < WORDS; i++)
			mine[i] = mine[i] * 6364136223846793005u + (uint64_t)(round + i);
}

static void shared(void)
{
	for (int round = 0; round < LOCK_ROUNDS; round++) {
		while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
			;
		counter += 1;
		atomic_flag_clear_explicit(&lock, memory_order_release);
	}
}

static void work(unsigned hart)
{
	if (SHARED)
		shared();
	else
		own(hart);
	atomic_fetch_add(&finished, 1);
}

void helper(unsigned hart)
{
	for (unsigned seen = 0;; seen++) {
		while (atomic_load(&round_number) == seen)
			;
		work(hart);
	}
}

uint64_t bench(void)
{
	uint64_t sum = 0;

	atomic_store(&finished, 0);
	atomic_fetch_add(&round_number, 1);
	work(0);
	while (atomic_load(&finished) < HARTS)
		;
	for (int hart = 0; hart < HARTS; hart++)
		sum = mix(sum, words[hart][WORDS - 1]);
	return sum + counter;
}
