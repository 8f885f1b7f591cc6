/* A small register machine: the program that the two interpreters run. */
#include "bench.h"

enum op { ADD, SUB, MUL, XOR, SHR, LOAD, STORE, IMM, JNZ, JLT, HALT };

struct instruction {
	uint8_t op, a, b, c;
	int32_t value;
};

/* Sums a generator's output into a table, with an inner loop over the table now and then. */
static const struct instruction code[] = {
	{ IMM, 0, 0, 0, 12345 },	/* r0: generator */
	{ IMM, 1, 0, 0, 1500000 },	/* r1: rounds */
	{ IMM, 2, 0, 0, 1 },
	{ IMM, 3, 0, 0, 1103515 },
	{ IMM, 4, 0, 0, 0 },		/* r4: sum */
	{ MUL, 0, 0, 3, 0 },		/* 5: */
	{ ADD, 0, 0, 2, 0 },
	{ SHR, 5, 0, 0, 16 },
	{ LOAD, 6, 5, 0, 0 },
	{ ADD, 6, 6, 0, 0 },
	{ STORE, 6, 5, 0, 0 },
	{ XOR, 4, 4, 6, 0 },
	{ JLT, 6, 4, 0, 1 },
	{ SUB, 4, 4, 2, 0 },
	{ SUB, 1, 1, 2, 0 },
	{ JNZ, 1, 0, 0, -11 },
	{ HALT, 4, 0, 0, 0 },
};

enum { REGISTERS = 16, MEMORY = 256 };
