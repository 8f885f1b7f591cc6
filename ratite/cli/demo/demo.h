/* The demo guest: a small program that starts the way a RISC-V kernel does.
 *
 * Sources: Linux's RISC-V boot protocol; RISC-V SBI specification 2.0; Devicetree specification 0.4.
 */
#ifndef DEMO_H
#define DEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* console.c: text in and out. Output is kept back until a line's end or console_flush(). */
void console_init(void);
const char *console_name(void);
void console_flush(void);
void put_char(char c);
void put(const char *text);
void put_uint(uint64_t value, int width);        /* decimal, right-aligned */
void put_hex(uint64_t value, int digits);        /* 0x and at least so many digits */
void put_size(uint64_t bytes);                   /* 512 MiB, right-aligned in 8 */
void put_padded(const char *text, int width);    /* left-aligned */
int get_char(void);                              /* -1 if there is none yet */
int wait_char(void);                             /* sleeps until there is one */

/* line.c: a line with editing keys and a history. Returns its length, without an end of line. */
size_t read_line(const char *prompt, char *line, size_t size);

/* sbi.c: what the firmware does for us. */
struct sbi_result {
	long error;
	long value;
};
struct sbi_result sbi_call(long extension, long function, long a0, long a1, long a2);
bool sbi_has(long extension);
void sbi_set_timer(uint64_t when);
void machine_reset(bool reboot, bool failed);    /* does not return */

enum { SBI_BASE = 0x10, SBI_TIME = 0x54494d45, SBI_HSM = 0x48534d, SBI_SRST = 0x53525354,
       SBI_DBCN = 0x4442434e };

/* fdt.c: the flattened device tree that the machine handed over. */
enum fdt_token { FDT_BEGIN = 1, FDT_END_NODE = 2, FDT_PROPERTY = 3, FDT_END = 9 };
struct fdt_cursor {
	const char *next;
	const char *name;                        /* of the node begun, or of the property */
	const char *data;                        /* of the property */
	uint32_t size;
};
bool fdt_init(const void *blob);
uint32_t fdt_size(void);
void fdt_start(struct fdt_cursor *cursor);
enum fdt_token fdt_next(struct fdt_cursor *cursor);
uint32_t fdt_u32(const char *data);
uint64_t fdt_cells(const char *data, int cells);
const char *fdt_text(const char *node, const char *property); /* of a top-level node, "" for / */
bool fdt_number(const char *node, const char *property, uint64_t *value);

struct region {
	uint64_t start, size;
	char name[32];
	const char *compatible;                  /* may be null */
};
int fdt_regions(struct region *regions, int limit);
uint64_t fdt_device(const char *compatible);     /* its first address; 0 if there is none */

/* bench.c, tree.c, main.c */
void bench(void);
void show_tree(const char *filter);
void show_memory(void);
extern uint64_t timebase;                        /* ticks of the time CSR in a second */
extern uint64_t boot_hart;
extern const void *boot_fdt;

static inline uint64_t read_time(void)
{
	uint64_t value;
	__asm__ volatile("rdtime %0" : "=r"(value));
	return value;
}

bool read_instret(uint64_t *value);              /* false if the firmware keeps it to itself */

/* string.c: the part of the C library that is needed. */
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
bool contains(const char *text, const char *part);

#endif
