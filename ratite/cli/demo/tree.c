#include "demo.h"

enum { DEPTH = 16, REGIONS = 64 };

extern const char _start[], _end[];

static bool is_text(const struct fdt_cursor *c)
{
	if (!c->size || c->data[c->size - 1])
		return false;
	for (uint32_t i = 0; i < c->size; i++) {
		if (!c->data[i] ? i == 0 || !c->data[i - 1] : c->data[i] < ' ' || c->data[i] > '~')
			return false;
	}
	return true;
}

static void put_value(const struct fdt_cursor *c)
{
	if (is_text(c)) {
		for (const char *text = c->data; text < c->data + c->size; text += strlen(text) + 1) {
			put(text == c->data ? " = \"" : ", \"");
			put(text);
			put("\"");
		}
	} else if (c->size) {
		put(" = <");
		for (uint32_t at = 0; at + 4 <= c->size; at += 4) {
			if (at)
				put(" ");
			put_hex(fdt_u32(c->data + at), 1);
		}
		put(">");
	}
	put("\n");
}

static void indent(int depth)
{
	for (int i = 1; i < depth; i++)
		put("    ");
}

/* All of the tree, or the nodes whose name contains the filter with everything below them. */
void show_tree(const char *filter)
{
	struct fdt_cursor c;
	int depth = 0, shown_from = *filter ? 0 : 1;

	fdt_start(&c);
	for (enum fdt_token t = fdt_next(&c); t != FDT_END; t = fdt_next(&c)) {
		if (t == FDT_BEGIN) {
			depth++;
			if (!shown_from && contains(c.name, filter))
				shown_from = depth;
		}
		if (shown_from) {
			indent(depth - shown_from + (t == FDT_PROPERTY ? 2 : 1));
			put(t == FDT_END_NODE ? "}\n" : *c.name ? c.name : "/");
			if (t == FDT_BEGIN)
				put(" {\n");
			else if (t == FDT_PROPERTY)
				put_value(&c);
		}
		if (t == FDT_END_NODE && depth-- == shown_from && *filter)
			shown_from = 0;
	}
}

static void put_region(const struct region *r)
{
	put("  ");
	put_hex(r->start, 10);
	put(" - ");
	put_hex(r->start + r->size - 1, 10);
	put_size(r->size);
	put("  ");
	put_padded(r->name, 16);
	if (r->compatible)
		put(r->compatible);
	put("\n");
}

static void sort(struct region *regions, int count)
{
	for (int i = 1; i < count; i++)
		for (int j = i; j && regions[j].start < regions[j - 1].start; j--) {
			struct region swap = regions[j];

			regions[j] = regions[j - 1];
			regions[j - 1] = swap;
		}
}

void show_memory(void)
{
	static struct region regions[REGIONS];
	int count = fdt_regions(regions, REGIONS - 2);

	regions[count++] = (struct region){ (uint64_t)_start, (uint64_t)(_end - _start),
					    "  this program", NULL };
	if (fdt_size())
		regions[count++] = (struct region){ (uint64_t)boot_fdt, fdt_size(),
						    "  device tree", NULL };
	sort(regions, count);
	for (int i = 0; i < count; i++)
		put_region(&regions[i]);
}
