/* An open-addressing hash table of short strings: insert, look up, delete. */
#include "bench.h"

enum { SLOTS = 1 << 15, KEYS = 20000, ROUNDS = 12, LENGTH = 12 };

struct slot {
	char key[LENGTH];
	uint32_t count;		/* 0: free */
};

static struct slot table[SLOTS];

static uint64_t hash(const char *key)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (int i = 0; i < LENGTH; i++)
		h = (h ^ (uint8_t)key[i]) * 0x100000001b3u;
	return h ^ h >> 29;
}

static struct slot *find(const char *key)
{
	for (uint64_t at = hash(key);; at++) {
		struct slot *slot = &table[at % SLOTS];
		int i = 0;

		if (!slot->count)
			return slot;
		while (i < LENGTH && slot->key[i] == key[i])
			i++;
		if (i == LENGTH)
			return slot;
	}
}

static void make_key(char *key, uint32_t *seed)
{
	uint32_t number = next_random(seed) % KEYS;

	for (int i = 0; i < LENGTH; i++) {
		key[i] = (char)('a' + number % 26);
		number = number / 26 * 31 + (uint32_t)i;
	}
}

uint64_t bench(void)
{
	uint64_t sum = 0;

	for (int round = 0; round < ROUNDS; round++) {
		uint32_t seed = 21 + (uint32_t)round;

		for (unsigned i = 0; i < SLOTS; i++)
			table[i].count = 0;
		for (unsigned i = 0; i < 3 * KEYS; i++) {
			char key[LENGTH];
			struct slot *slot;

			make_key(key, &seed);
			slot = find(key);
			if (!slot->count++)
				for (int j = 0; j < LENGTH; j++)
					slot->key[j] = key[j];
			sum += slot->count;
		}
		for (unsigned i = 0; i < SLOTS; i += 97)
			sum = mix(sum, table[i].count);
	}
	return sum;
}
