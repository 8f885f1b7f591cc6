/* The same interpreter with threaded code: each operation jumps to the next. */
#include "vm.h"

static uint64_t memory[MEMORY];

#define NEXT() do { i = pc++; goto *labels[i->op]; } while (0)

uint64_t bench(void)
{
	static const void *const labels[] = {
		&&add, &&sub, &&mul, &&xor, &&shr, &&load, &&store, &&imm, &&jnz, &&jlt, &&halt,
	};
	uint64_t r[REGISTERS] = { 0 };
	const struct instruction *pc = code, *i;

	NEXT();
add:
	r[i->a] = r[i->b] + r[i->c];
	NEXT();
sub:
	r[i->a] = r[i->b] - r[i->c];
	NEXT();
mul:
	r[i->a] = r[i->b] * r[i->c];
	NEXT();
xor:
	r[i->a] = r[i->b] ^ r[i->c];
	NEXT();
shr:
	r[i->a] = r[i->b] >> i->value;
	NEXT();
load:
	r[i->a] = memory[r[i->b] % MEMORY];
	NEXT();
store:
	memory[r[i->b] % MEMORY] = r[i->a];
	NEXT();
imm:
	r[i->a] = (uint64_t)i->value;
	NEXT();
jnz:
	if (r[i->a])
		pc += i->value;
	NEXT();
jlt:
	if (r[i->a] < r[i->b])
		pc += i->value;
	NEXT();
halt:
	return r[i->a];
}
