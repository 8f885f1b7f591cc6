/* What a guest with a compiler of its own does: writes functions into fresh pages, runs them, writes
 * others over them, and gives the pages back. Exits with 0 if every call has returned what it must.
 * No C library. */
#include <stdint.h>

enum { MMAP = 222, MUNMAP = 215, EXIT = 93, FLUSH_ICACHE = 259 };
enum { RWX = 7, PRIVATE_ANONYMOUS = 0x22, SIZE = 16384, FUNCTIONS = SIZE / 16, ROUNDS = 40 };

static long system_call(long number, long a, long b, long c, long d, long e, long f)
{
	register long a0 __asm__("a0") = a;
	register long a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d;
	register long a4 __asm__("a4") = e;
	register long a5 __asm__("a5") = f;
	register long a7 __asm__("a7") = number;

	__asm__ volatile("ecall"
			 : "+r"(a0)
			 : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7)
			 : "memory");
	return a0;
}

/* addi a0, a0, value; slli a0, a0, 1; ret */
static void write_function(uint32_t *code, int value)
{
	code[0] = 0x00050513u | (uint32_t)value << 20;
	code[1] = 0x00151513u;
	code[2] = 0x00008067u;
}

static int round_of(uint32_t *code, int seed)
{
	for (int i = 0; i < FUNCTIONS; i++)
		write_function(code + i * 4, (i * 7 + seed) & 0x7FF);
	system_call(FLUSH_ICACHE, (long)code, (long)code + SIZE, 0, 0, 0, 0);
	for (int i = 0; i < FUNCTIONS; i++) {
		long (*function)(long) = (long (*)(long))(code + i * 4);

		if (function(i) != 2 * (i + ((i * 7 + seed) & 0x7FF)))
			return 0;
	}
	return 1;
}

void _start(void)
{
	int good = 1;

	for (int round = 0; round < ROUNDS && good; round++) {
		long page = system_call(MMAP, 0, SIZE, RWX, PRIVATE_ANONYMOUS, -1, 0);

		if (page < 0)
			good = 0;
		for (int again = 0; again < 4 && good; again++)
			good = round_of((uint32_t *)page, round * 4 + again);
		system_call(MUNMAP, page, SIZE, 0, 0, 0, 0);
	}
	system_call(EXIT, !good, 0, 0, 0, 0, 0);
}
