/* Each hart writes all over 4 MiB of its own, in an order that only its number decides, with timer
   interrupts in between, and prints a checksum of all that it read and left. Progress is dots. */

typedef unsigned long u64;

__asm__(
    "	.globl	_start\n"
    "_start:\n"
    "	.option	push\n"
    "	.option	norelax\n"
    "	la	gp, __global_pointer$\n"
    "	.option	pop\n"
    "	csrr	a0, mhartid\n"
    "	slli	t0, a0, 16\n"
    "	li	sp, 0x83000000\n"
    "	add	sp, sp, t0\n"
    "	la	t0, tick\n"
    "	csrw	mtvec, t0\n"
    "	j	work\n");

#define MTIMECMP ((volatile u64 *)0x2004000)
#define MTIME (*(volatile u64 *)0x200bff8)
#define UART ((volatile unsigned char *)0x10000000)
#define WORDS (0x400000 / 8)

static int printing;

static void put(char character)
{
	while (!(UART[5] & 0x20))
		;
	UART[0] = character;
}

static void begin(void)
{
	while (__atomic_exchange_n(&printing, 1, __ATOMIC_ACQUIRE))
		;
}

static void end(void)
{
	__atomic_store_n(&printing, 0, __ATOMIC_RELEASE);
}

__attribute__((interrupt("machine"), aligned(4), used)) void tick(void)
{
	u64 hart;
	__asm__ volatile("csrr %0, mhartid" : "=r"(hart));
	MTIMECMP[hart] = MTIME + 20000;
}

__attribute__((used)) void work(u64 hart)
{
	volatile u64 *memory = (volatile u64 *)(0x84000000 + hart * 0x400000);
	u64 x = 88172645463325252UL ^ hart, sum = 0;

	MTIMECMP[hart] = MTIME + 20000;
	__asm__ volatile("csrs mie, %0; csrsi mstatus, 8" ::"r"(0x80L));
	for (u64 step = 0; step < STEPS; step++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memory[x & (WORDS - 1)] += x;
		sum = sum * 31 + memory[(x >> 20) & (WORDS - 1)];
		if (!hart && !(step & 0xfffff)) {
			begin();
			put('.');
			end();
		}
	}
	for (u64 word = 0; word < WORDS; word++)
		sum = sum * 31 + memory[word];
	begin();
	put('\n');
	put('0' + hart);
	put(':');
	for (int shift = 60; shift >= 0; shift -= 4)
		put("0123456789abcdef"[sum >> shift & 15]);
	put('\n');
	end();
	for (;;)
		__asm__ volatile("wfi");
}
