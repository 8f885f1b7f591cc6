/* A guest for the debugger's tests: runs on the bare machine, at the start of RAM. */
volatile unsigned long counter;
volatile unsigned long table[8];
volatile unsigned long other_harts[8];

__attribute__((noinline)) unsigned long add(unsigned long a, unsigned long b) {
    return a + b;
}

__attribute__((noinline)) unsigned long work(unsigned long rounds) {
    for (unsigned long i = 0; i < rounds; i++) {
        counter = add(counter, i);
        table[i & 7] = counter;
    }
    return table[3];
}

__attribute__((noinline)) void endless(void) {
    for (;;)
        counter++;
}

volatile unsigned int ticket;
volatile unsigned char two_pages[8192] __attribute__((aligned(4096)));

__attribute__((noinline)) void corners(void) {
    __atomic_fetch_add(&ticket, 5, __ATOMIC_SEQ_CST);
    unsigned int expected = 5;
    __atomic_compare_exchange_n(&ticket, &expected, 9, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    unsigned long *across = (unsigned long *)(two_pages + 4093);
    __asm__ volatile("sd %0, 0(%1)" : : "r"(0x1122334455667788), "r"(across) : "memory");
    __asm__ volatile("ld %0, 0(%1)" : "=r"(counter) : "r"(across) : "memory");
}

void start_c(unsigned long hart) {
    if (hart != 0)
        for (;;)
            other_harts[hart & 7]++;
    work(20);
    corners();
    endless();
}

__asm__(".section .text.start\n"
        ".globl _start\n"
        "_start:\n"
        "  csrr a0, mhartid\n"
        "  la sp, stacks\n"
        "  slli t0, a0, 12\n"
        "  add sp, sp, t0\n"
        "  li t0, 0x2000\n"
        "  csrs mstatus, t0\n"
        "  la t0, trap\n"
        "  csrw mtvec, t0\n"
        "  call start_c\n"
        ".balign 4\n"
        "trap: j trap\n"
        ".bss\n"
        ".balign 16\n"
        ".space 4096\n"
        "stacks: .space 32768\n"
        ".text\n");
