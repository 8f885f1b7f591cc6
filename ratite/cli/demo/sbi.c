#include "demo.h"

enum { LEGACY_SET_TIMER = 0, LEGACY_SHUTDOWN = 8 };
enum { TEST_PASS = 0x5555, TEST_FAIL = 0x3333, TEST_RESET = 0x7777 };

struct sbi_result sbi_call(long extension, long function, long arg0, long arg1, long arg2)
{
	register long a0 __asm__("a0") = arg0;
	register long a1 __asm__("a1") = arg1;
	register long a2 __asm__("a2") = arg2;
	register long a6 __asm__("a6") = function;
	register long a7 __asm__("a7") = extension;

	__asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
	return (struct sbi_result){ a0, a1 };
}

bool sbi_has(long extension)
{
	struct sbi_result result = sbi_call(SBI_BASE, 3, extension, 0, 0);

	return result.error == 0 && result.value != 0;
}

void sbi_set_timer(uint64_t when)
{
	if (sbi_has(SBI_TIME))
		sbi_call(SBI_TIME, 0, (long)when, 0, 0);
	else
		sbi_call(LEGACY_SET_TIMER, 0, (long)when, 0, 0);
}

void machine_reset(bool reboot, bool failed)
{
	uint64_t test = fdt_device("sifive,test0");

	console_flush();
	if (sbi_has(SBI_SRST))
		sbi_call(SBI_SRST, 0, reboot ? 1 : 0, failed, 0);
	if (test)
		*(volatile uint32_t *)test = reboot ? TEST_RESET
					   : failed ? TEST_FAIL | 1 << 16 : TEST_PASS;
	sbi_call(LEGACY_SHUTDOWN, 0, 0, 0, 0);
	put("this machine cannot be switched off from inside\n");
	console_flush();
	for (;;)
		__asm__ volatile("wfi");
}
