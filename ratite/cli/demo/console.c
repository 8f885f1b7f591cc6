#include "demo.h"

enum { LEGACY_PUTCHAR = 1, LEGACY_GETCHAR = 2 };
enum { UART_DATA = 0, UART_LINE_STATUS = 5, DATA_READY = 1, TRANSMIT_EMPTY = 1 << 5 };
enum { POLLS_PER_SECOND = 100 };

static enum { DEBUG_CONSOLE, LEGACY, UART } kind;
static volatile uint8_t *uart;
static char buffer[256];
static size_t used;

void console_init(void)
{
	uart = (volatile uint8_t *)fdt_device("ns16550a");
	if (sbi_has(SBI_DBCN))
		kind = DEBUG_CONSOLE;
	else if (sbi_has(LEGACY_PUTCHAR) || !uart)
		kind = LEGACY;
	else
		kind = UART;
}

const char *console_name(void)
{
	static const char *const names[] = { "SBI debug console", "SBI legacy console", "ns16550a" };

	return names[kind];
}

void console_flush(void)
{
	size_t sent = 0;

	while (sent < used) {
		if (kind == DEBUG_CONSOLE) {
			struct sbi_result result = sbi_call(SBI_DBCN, 0, (long)(used - sent),
							    (long)(buffer + sent), 0);
			if (result.error)
				break;
			sent += (size_t)result.value;
		} else if (kind == LEGACY) {
			sbi_call(LEGACY_PUTCHAR, 0, buffer[sent++], 0, 0);
		} else {
			while (!(uart[UART_LINE_STATUS] & TRANSMIT_EMPTY))
				;
			uart[UART_DATA] = (uint8_t)buffer[sent++];
		}
	}
	used = 0;
}

void put_char(char c)
{
	if (c == '\n')
		put_char('\r');
	buffer[used++] = c;
	if (c == '\n' || used == sizeof buffer)
		console_flush();
}

void put(const char *text)
{
	while (*text)
		put_char(*text++);
}

static void put_number(uint64_t value, unsigned base, int width, char fill)
{
	char digits[24];
	int count = 0;

	do {
		digits[count++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	for (int i = count; i < width; i++)
		put_char(fill);
	while (count)
		put_char(digits[--count]);
}

void put_uint(uint64_t value, int width)
{
	put_number(value, 10, width, ' ');
}

void put_hex(uint64_t value, int digits)
{
	put("0x");
	put_number(value, 16, digits, '0');
}

void put_size(uint64_t bytes)
{
	static const char *const units[] = { "B  ", "KiB", "MiB", "GiB", "TiB" };
	unsigned unit = 0;

	while (unit < 4 && bytes >= 1024 && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	put_uint(bytes, 8);
	put_char(' ');
	put(units[unit]);
}

void put_padded(const char *text, int width)
{
	put(text);
	for (int i = (int)strlen(text); i < width; i++)
		put_char(' ');
}

int get_char(void)
{
	static char ahead[32];
	static size_t count, next;

	if (next < count)
		return (unsigned char)ahead[next++];
	if (kind == DEBUG_CONSOLE) {
		struct sbi_result result = sbi_call(SBI_DBCN, 1, sizeof ahead, (long)ahead, 0);

		if (result.error || !result.value)
			return -1;
		count = (size_t)result.value;
		next = 1;
		return (unsigned char)ahead[0];
	}
	if (kind == LEGACY)
		return (int)sbi_call(LEGACY_GETCHAR, 0, 0, 0, 0).error;
	return uart[UART_LINE_STATUS] & DATA_READY ? uart[UART_DATA] : -1;
}

/* The timer ends the wait: with interrupts off it does not trap, but wfi still returns. */
int wait_char(void)
{
	int c;

	console_flush();
	while ((c = get_char()) < 0) {
		sbi_set_timer(read_time() + timebase / POLLS_PER_SECOND);
		__asm__ volatile("csrs sie, %0\n\twfi\n\tcsrc sie, %0" : : "r"(1L << 5));
	}
	return c;
}
