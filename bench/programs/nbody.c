/* Planets attracting each other, in double, with square roots. */
#include "bench.h"

enum { BODIES = 5, STEPS = 250000 };

static double position[BODIES][3], velocity[BODIES][3], mass[BODIES];

static void step(double dt)
{
	for (int i = 0; i < BODIES; i++)
		for (int j = i + 1; j < BODIES; j++) {
			double d[3], square = 0.01, factor;

			for (int k = 0; k < 3; k++) {
				d[k] = position[i][k] - position[j][k];
				square += d[k] * d[k];
			}
			factor = dt / (square * __builtin_sqrt(square));
			for (int k = 0; k < 3; k++) {
				velocity[i][k] -= d[k] * mass[j] * factor;
				velocity[j][k] += d[k] * mass[i] * factor;
			}
		}
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++)
			position[i][k] += dt * velocity[i][k];
}

uint64_t bench(void)
{
	uint32_t seed = 11;
	uint64_t sum = 0;

	for (int i = 0; i < BODIES; i++) {
		mass[i] = 1 + next_random(&seed) % 10;
		for (int k = 0; k < 3; k++) {
			position[i][k] = (double)(next_random(&seed) % 2000) / 100 - 10;
			velocity[i][k] = (double)(next_random(&seed) % 200) / 100 - 1;
		}
	}
	for (int i = 0; i < STEPS; i++)
		step(0.0001);
	for (int i = 0; i < BODIES; i++)
		sum = mix(sum, (uint64_t)(int64_t)(position[i][0] * 1000000000));
	return sum;
}
