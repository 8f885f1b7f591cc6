/* A compressor: matches found through hash chains, coded as bytes; then unpacked and compared. */
#include "bench.h"

enum { SIZE = 1 << 17, WINDOW = 1 << 15, HASHES = 1 << 13, LEAST = 4, MOST = 66, CHAIN = 16 };

static uint8_t input[SIZE], packed[SIZE * 2], output[SIZE];
static int32_t head[HASHES], previous[WINDOW];

static unsigned hash(const uint8_t *p)
{
	uint32_t value = p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;

	return value * 2654435761u >> 19;
}

static size_t match_length(const uint8_t *a, const uint8_t *b, size_t limit)
{
	size_t length = 0;

	while (length < limit && a[length] == b[length])
		length++;
	return length;
}

static size_t compress(void)
{
	size_t at = 0, out = 0;

	for (unsigned i = 0; i < HASHES; i++)
		head[i] = -1;
	while (at < SIZE) {
		size_t limit = SIZE - at < MOST ? SIZE - at : MOST, best = 0, distance = 0;

		if (limit >= LEAST) {
			unsigned h = hash(input + at);
			int32_t candidate = head[h];

			for (int tries = 0; tries < CHAIN && candidate >= 0; tries++) {
				size_t back = at - (size_t)candidate, length;

				if (back >= WINDOW)
					break;
				length = match_length(input + at, input + candidate, limit);
				if (length > best)
					best = length, distance = back;
				candidate = previous[candidate % WINDOW];
			}
			previous[at % WINDOW] = head[h];
			head[h] = (int32_t)at;
		}
		if (best >= LEAST) {
			packed[out++] = (uint8_t)(0x80 | (best - LEAST));
			packed[out++] = (uint8_t)distance;
			packed[out++] = (uint8_t)(distance >> 8);
			at += best;
		} else {
			packed[out++] = input[at++] & 0x7f;
		}
	}
	return out;
}

static void decompress(size_t size)
{
	size_t out = 0;

	for (size_t at = 0; at < size;) {
		uint8_t byte = packed[at++];

		if (byte & 0x80) {
			size_t length = (byte & 0x7f) + LEAST;
			size_t distance = packed[at] | packed[at + 1] << 8;

			at += 2;
			for (; length; length--, out++)
				output[out] = output[out - distance];
		} else {
			output[out++] = byte;
		}
	}
}

uint64_t bench(void)
{
	static const char *const words[] = { "the ", "guest ", "writes ", "a ", "register ", "and ",
					     "memory ", "is ", "translated ", "once. " };
	uint64_t sum = 0;

	for (uint32_t round = 1; round <= 20; round++) {
		uint32_t seed = round;
		size_t at = 0, size;

		while (at < SIZE) {
			const char *word = words[next_random(&seed) % 10];

			while (*word && at < SIZE)
				input[at++] = (uint8_t)*word++;
			if (next_random(&seed) % 4 == 0 && at < SIZE)
				input[at++] = 'a' + next_random(&seed) % 26;
		}
		size = compress();
		decompress(size);
		for (size_t i = 0; i < SIZE; i++)
			if (output[i] != input[i])
				return 0;
		sum = mix(sum, size);
	}
	return sum;
}
