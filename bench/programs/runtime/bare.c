/* Runs a program on a bare `virt` board: times each phase by the machine timer, prints a line for it
 * on the UART (checksum, ticks of 100 ns, instructions retired) and powers the machine off. */
#include "bench.h"

#define UART ((volatile uint8_t *)0x10000000)
#define FINISHER ((volatile uint32_t *)0x100000)
#define MTIME ((volatile uint64_t *)0x200bff8)

enum { LINE_STATUS = 5, TRANSMIT_EMPTY = 1 << 5, FINISHER_PASS = 0x5555 };

static void put_char(char c)
{
	while (!(UART[LINE_STATUS] & TRANSMIT_EMPTY))
		;
	UART[0] = (uint8_t)c;
}

static void put_hex(uint64_t value)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		put_char("0123456789abcdef"[value >> shift & 15]);
}

static uint64_t retired(void)
{
	uint64_t count;

	__asm__ volatile("csrr %0, minstret" : "=r"(count));
	return count;
}

static void run_phase(int rounds)
{
	uint64_t ticks = *MTIME, count = retired();
	uint64_t sum = bench_rounds(rounds);

	count = retired() - count;
	ticks = *MTIME - ticks;
	put_hex(sum);
	put_char(' ');
	put_hex(ticks);
	put_char(' ');
	put_hex(count);
	put_char('\n');
}

void bare_main(void)
{
	for (int phase = 0; phase < PHASES; phase++)
		run_phase(bench_phases[phase]);
	*FINISHER = FINISHER_PASS;
}

/* What the compiler may call. */

void *memcpy(void *to, const void *from, size_t size)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	if (((uintptr_t)t & 7) == ((uintptr_t)f & 7)) {
		for (; size && ((uintptr_t)t & 7); size--)
			*t++ = *f++;
		for (; size >= 8; size -= 8, t += 8, f += 8)
			*(uint64_t *)t = *(const uint64_t *)f;
	}
	while (size--)
		*t++ = *f++;
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	uint8_t *t = to;
	uint64_t word = (uint8_t)byte * 0x0101010101010101u;

	for (; size && ((uintptr_t)t & 7); size--)
		*t++ = (uint8_t)byte;
	for (; size >= 8; size -= 8, t += 8)
		*(uint64_t *)t = word;
	while (size--)
		*t++ = (uint8_t)byte;
	return to;
}
