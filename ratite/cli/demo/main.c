#include "demo.h"

uint64_t timebase = 10000000;
uint64_t boot_hart;
const void *boot_fdt;

static void help(const char *rest);

static void put_version(const char *name, long function)
{
	struct sbi_result result = sbi_call(SBI_BASE, function, 0, 0, 0);

	put(name);
	put_hex((uint64_t)result.value, 1);
}

static unsigned count_harts(void)
{
	struct fdt_cursor c;
	unsigned harts = 0;

	fdt_start(&c);
	for (enum fdt_token t = fdt_next(&c); t != FDT_END; t = fdt_next(&c))
		harts += t == FDT_PROPERTY && !strcmp(c.name, "device_type")
			 && !strcmp(c.data, "cpu");
	return harts;
}

static void put_isa(void)
{
	struct fdt_cursor c;

	fdt_start(&c);
	for (enum fdt_token t = fdt_next(&c); t != FDT_END; t = fdt_next(&c))
		if (t == FDT_PROPERTY && !strcmp(c.name, "riscv,isa")) {
			put(c.data);
			return;
		}
	put("?");
}

static void cpus(const char *rest)
{
	(void)rest;
	put_uint(count_harts(), 0);
	put(count_harts() == 1 ? " hart, " : " harts, this one is number ");
	if (count_harts() != 1)
		put_uint(boot_hart, 0);
	put(count_harts() == 1 ? "" : ", ");
	put_isa();
	put("\n");
	put_version("vendor ", 4);
	put_version(", architecture ", 5);
	put_version(", implementation ", 6);
	put("\n");
}

static void firmware(const char *rest)
{
	long version = sbi_call(SBI_BASE, 0, 0, 0, 0).value;

	(void)rest;
	put("SBI ");
	put_uint((uint64_t)version >> 24 & 0x7f, 0);
	put(".");
	put_uint((uint64_t)version & 0xffffff, 0);
	put_version(", implementation ", 1);
	put_version(" version ", 2);
	put(", console: ");
	put(console_name());
	put("\n");
}

static void memory(const char *rest)
{
	(void)rest;
	show_memory();
}

static void run_bench(const char *rest)
{
	(void)rest;
	bench();
}

static void echo(const char *rest)
{
	put(rest);
	put("\n");
}

static void uptime(const char *rest)
{
	uint64_t ms = read_time() * 1000 / timebase;

	(void)rest;
	put_uint(ms / 1000, 0);
	put(".");
	put_uint(ms % 1000 / 100, 0);
	put(" s\n");
}

static void reboot(const char *rest)
{
	(void)rest;
	machine_reset(true, false);
}

static void power_off(const char *rest)
{
	(void)rest;
	machine_reset(false, false);
}

static const struct {
	const char *name, *help;
	void (*run)(const char *rest);
} commands[] = {
	{ "help", "this list", help },
	{ "mem", "the memory map", memory },
	{ "dt", "the device tree; dt NAME shows the nodes of that name", show_tree },
	{ "cpu", "the harts", cpus },
	{ "sbi", "the firmware", firmware },
	{ "bench", "how fast this machine is", run_bench },
	{ "echo", "say something", echo },
	{ "uptime", "the time since power-on", uptime },
	{ "reboot", "start again", reboot },
	{ "poweroff", "end", power_off },
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void help(const char *rest)
{
	(void)rest;
	for (int i = 0; i < COMMANDS; i++) {
		put("  ");
		put_padded(commands[i].name, 10);
		put(commands[i].help);
		put("\n");
	}
}

static void run(char *line)
{
	char *rest = line;

	while (*rest && *rest != ' ')
		rest++;
	while (*rest == ' ')
		*rest++ = 0;
	for (int i = 0; i < COMMANDS; i++)
		if (!strcmp(line, commands[i].name)) {
			commands[i].run(rest);
			return;
		}
	put(line);
	put(": not a command; help lists them\n");
}

static void greet(void)
{
	const char *model = fdt_text("", "model");

	put("\nHello from inside the machine: ");
	put(model ? model : "no device tree was handed over");
	put("\n");
	firmware("");
	cpus("");
	put("\nMemory map, from the device tree:\n");
	show_memory();
	put("\nType help for what there is to do, poweroff to end.\n");
}

void trap_report(uint64_t cause, uint64_t pc, uint64_t value)
{
	put("\nexception ");
	put_uint(cause, 0);
	put(" at ");
	put_hex(pc, 8);
	put(", value ");
	put_hex(value, 8);
	put("\n");
	machine_reset(false, true);
}

void demo_main(uint64_t hart, const void *fdt)
{
	char line[128];

	boot_hart = hart;
	boot_fdt = fdt;
	if (fdt_init(fdt))
		fdt_number("cpus", "timebase-frequency", &timebase);
	console_init();
	greet();
	for (;;)
		if (read_line("demo> ", line, sizeof line))
			run(line);
}
