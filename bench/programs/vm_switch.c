/* A bytecode interpreter that dispatches by a switch. */
#include "vm.h"

static uint64_t memory[MEMORY];

uint64_t bench(void)
{
	uint64_t r[REGISTERS] = { 0 };
	const struct instruction *pc = code;

	for (;;) {
		const struct instruction i = *pc++;

		switch (i.op) {
		case ADD:
			r[i.a] = r[i.b] + r[i.c];
			break;
		case SUB:
			r[i.a] = r[i.b] - r[i.c];
			break;
		case MUL:
			r[i.a] = r[i.b] * r[i.c];
			break;
		case XOR:
			r[i.a] = r[i.b] ^ r[i.c];
			break;
		case SHR:
			r[i.a] = r[i.b] >> i.value;
			break;
		case LOAD:
			r[i.a] = memory[r[i.b] % MEMORY];
			break;
		case STORE:
			memory[r[i.b] % MEMORY] = r[i.a];
			break;
		case IMM:
			r[i.a] = (uint64_t)i.value;
			break;
		case JNZ:
			if (r[i.a])
				pc += i.value;
			break;
		case JLT:
			if (r[i.a] < r[i.b])
				pc += i.value;
			break;
		case HALT:
			return r[i.a];
		}
	}
}
