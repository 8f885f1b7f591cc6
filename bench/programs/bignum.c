/* Arithmetic on long numbers: a factorial, its digits by division, a Fibonacci number by addition,
 * and a schoolbook product. */
#include "bench.h"

enum { LIMBS = 700, HALF = 350 };

static uint32_t number[LIMBS], other[LIMBS], product[2 * LIMBS];

static size_t multiply_small(uint32_t *n, size_t size, uint32_t by)
{
	uint64_t carry = 0;

	for (size_t i = 0; i < size; i++) {
		carry += (uint64_t)n[i] * by;
		n[i] = (uint32_t)carry;
		carry >>= 32;
	}
	if (carry)
		n[size++] = (uint32_t)carry;
	return size;
}

static uint32_t divide_small(uint32_t *n, size_t size, uint32_t by)
{
	uint64_t rest = 0;

	for (size_t i = size; i-- > 0;) {
		rest = rest << 32 | n[i];
		n[i] = (uint32_t)(rest / by);
		rest %= by;
	}
	return (uint32_t)rest;
}

static void add(uint32_t *to, const uint32_t *n, size_t size)
{
	uint64_t carry = 0;

	for (size_t i = 0; i < size; i++) {
		carry += (uint64_t)to[i] + n[i];
		to[i] = (uint32_t)carry;
		carry >>= 32;
	}
}

static void multiply(uint32_t *to, const uint32_t *a, const uint32_t *b, size_t size)
{
	for (size_t i = 0; i < 2 * size; i++)
		to[i] = 0;
	for (size_t i = 0; i < size; i++) {
		uint64_t carry = 0;

		for (size_t j = 0; j < size; j++) {
			carry += (uint64_t)a[i] * b[j] + to[i + j];
			to[i + j] = (uint32_t)carry;
			carry >>= 32;
		}
		to[i + size] = (uint32_t)carry;
	}
}

uint64_t bench(void)
{
	size_t size = 1;
	uint64_t sum = 0;

	number[0] = 1;
	for (uint32_t n = 2; n <= 2400; n++)
		size = multiply_small(number, size, n);
	for (size_t i = 0; i < LIMBS; i++)
		other[i] = number[i] ^ 0x5a5a5a5au;
	for (int round = 0; round < 200; round++) {
		multiply(product, number, other, HALF);
		sum = mix(sum, product[round] ^ product[2 * HALF - 1 - round]);
		add(other, product, LIMBS);
	}
	while (size) {
		sum = mix(sum, divide_small(number, size, 1000000000));
		while (size && !number[size - 1])
			size--;
	}
	return sum;
}
