/* Product of matrices, in float. */
#include "bench.h"

enum { N = 120, ROUNDS = 27 };

static float a[N][N], b[N][N], c[N][N];

uint64_t bench(void)
{
	uint32_t seed = 5;
	uint64_t sum = 0;

	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			a[i][j] = (float)(next_random(&seed) % 1000) / 1000;
			b[i][j] = (float)(next_random(&seed) % 1000) / 1000;
		}
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				float total = 0;

				for (int k = 0; k < N; k++)
					total += a[i][k] * b[k][j];
				c[i][j] = total;
			}
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++)
				a[i][j] = c[i][j] / (N / 4);
		sum = mix(sum, (uint64_t)(a[round][round] * 1000000));
	}
	return sum;
}
