#include "demo.h"

enum { WORDS = 16384, SIEVE = 32768 };

static uint64_t words[WORDS];
static char composite[SIEVE];
static volatile uint64_t sink;           /* results go here, so that nothing is optimised away */

static void integer(uint64_t rounds)
{
	uint64_t x = 88172645463325252, sum = 0;

	for (uint64_t i = 0; i < rounds * 1000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		sum += x & i;
	}
	sink = sum;
}

static void multiply(uint64_t rounds)
{
	uint64_t x = 12345, sum = 0;

	for (uint64_t i = 1; i <= rounds * 300; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		sum += (x >> 33) / (i | 1);
	}
	sink = sum;
}

static void memory(uint64_t rounds)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < rounds; i++) {
		for (unsigned w = 0; w < WORDS; w += 16)
			words[w] = sum + w;
		for (unsigned w = 0; w < WORDS; w += 8)
			sum += words[w];
	}
	sink = sum;
}

__attribute__((noinline, noclone)) static uint64_t fibonacci(uint64_t n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static void calls(uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++)
		sink = fibonacci(12);
}

static void sieve(uint64_t rounds)
{
	uint64_t primes = 0;

	for (uint64_t i = 0; i < rounds; i++) {
		memset(composite, 0, SIEVE);
		for (unsigned n = 2; n < SIEVE; n++) {
			if (composite[n])
				continue;
			primes++;
			for (unsigned multiple = n * 2; multiple < SIEVE; multiple += n)
				composite[multiple] = 1;
		}
	}
	sink = primes;
}

static void atomics(uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds * 500; i++)
		__atomic_fetch_add(&words[i % 64], i, __ATOMIC_SEQ_CST);
}

static const struct {
	const char *name;
	void (*run)(uint64_t rounds);
} loops[] = {
	{ "integer", integer }, { "multiply", multiply }, { "memory", memory },
	{ "calls", calls }, { "sieve", sieve }, { "atomics", atomics },
};

/* Doubles the rounds until they take a tenth of a second, and reports the last run. */
static void measure(unsigned index)
{
	uint64_t ticks = 0, before = 0, after = 0, rounds = 0;
	bool counted = false;

	while (ticks < timebase / 10) {
		rounds = rounds ? rounds * 2 : 1;
		counted = read_instret(&before);
		uint64_t start = read_time();
		loops[index].run(rounds);
		ticks = read_time() - start;
		read_instret(&after);
	}
	put("  ");
	put_padded(loops[index].name, 10);
	put_uint(ticks * 1000 / timebase, 6);
	put(" ms");
	put_uint(rounds * timebase / (ticks ? ticks : 1), 9);
	put(" rounds/s");
	if (counted) {
		uint64_t count = after - before;

		put_uint(count / 1000, 9);
		put(" k instructions");
		put_uint(count / (ticks * 1000000 / timebase + 1), 7);
		put(" MIPS");
	}
	put("\n");
}

void bench(void)
{
	for (unsigned i = 0; i < sizeof loops / sizeof loops[0]; i++)
		measure(i);
}
