/* Byte and word loops over memory: copy, fill, length, compare, search. */
#include "bench.h"

enum { SIZE = 1 << 14, ROUNDS = 900 };

static char text[SIZE], copy[SIZE];
static uint64_t words[SIZE / 8];

static size_t length(const char *s)
{
	const char *start = s;

	while (*s)
		s++;
	return (size_t)(s - start);
}

static void copy_string(char *to, const char *from)
{
	while ((*to++ = *from++))
		;
}

static int compare(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a - *b;
}

static unsigned count_words(const char *s)
{
	unsigned count = 0;
	int inside = 0;

	for (; *s; s++) {
		int letter = *s != ' ';

		count += letter && !inside;
		inside = letter;
	}
	return count;
}

static const char *find(const char *s, const char *wanted)
{
	for (; *s; s++) {
		size_t i = 0;

		while (wanted[i] && s[i] == wanted[i])
			i++;
		if (!wanted[i])
			return s;
	}
	return NULL;
}

uint64_t bench(void)
{
	uint32_t seed = 3;
	uint64_t sum = 0;

	for (size_t i = 0; i < SIZE - 1; i++) {
		uint32_t r = next_random(&seed);

		text[i] = r % 6 ? (char)('a' + r % 13) : ' ';
	}
	for (int round = 0; round < ROUNDS; round++) {
		text[round * 13 % (SIZE - 1)] = 'z';
		copy_string(copy, text);
		sum = mix(sum, length(copy) + (unsigned)compare(copy, text) + count_words(copy));
		sum = mix(sum, find(copy, "zzqz") != NULL);
		for (size_t i = 0; i < SIZE / 8; i++)
			words[i] = words[(i + 5) % (SIZE / 8)] + i;
		sum = mix(sum, words[round]);
	}
	return sum;
}
