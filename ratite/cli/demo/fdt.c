#include "demo.h"

enum { MAGIC = 0xd00dfeed, NOP = 4, DEPTH = 16 };

static const char *blob;

uint32_t fdt_u32(const char *data)
{
	const unsigned char *d = (const unsigned char *)data;

	return (uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 | d[3];
}

uint64_t fdt_cells(const char *data, int cells)
{
	uint64_t value = 0;

	for (int i = 0; i < cells; i++)
		value = value << 32 | fdt_u32(data + 4 * i);
	return value;
}

bool fdt_init(const void *found)
{
	blob = found && fdt_u32(found) == MAGIC ? found : NULL;
	return blob != NULL;
}

uint32_t fdt_size(void)
{
	return blob ? fdt_u32(blob + 4) : 0;
}

void fdt_start(struct fdt_cursor *cursor)
{
	cursor->next = blob ? blob + fdt_u32(blob + 8) : NULL;
}

enum fdt_token fdt_next(struct fdt_cursor *cursor)
{
	uint32_t token = NOP;

	if (!cursor->next)
		return FDT_END;
	while (token == NOP) {
		token = fdt_u32(cursor->next);
		cursor->next += 4;
	}
	if (token == FDT_BEGIN) {
		cursor->name = cursor->next;
		cursor->next += (strlen(cursor->name) + 4) & ~3UL;
	} else if (token == FDT_PROPERTY) {
		cursor->size = fdt_u32(cursor->next);
		cursor->name = blob + fdt_u32(blob + 12) + fdt_u32(cursor->next + 4);
		cursor->data = cursor->next + 8;
		cursor->next += 8 + ((cursor->size + 3) & ~3U);
	} else if (token != FDT_END_NODE) {
		cursor->next = NULL;
		return FDT_END;
	}
	return (enum fdt_token)token;
}

/* The property of a top-level node; null if there is none. */
static const char *find(const char *node, const char *property, uint32_t *size)
{
	struct fdt_cursor c;
	int depth = 0;
	bool inside = false;

	fdt_start(&c);
	for (enum fdt_token t = fdt_next(&c); t != FDT_END; t = fdt_next(&c)) {
		if (t == FDT_BEGIN) {
			depth++;
			inside = !strcmp(c.name, node) && depth == (*node ? 2 : 1);
		} else if (t == FDT_END_NODE) {
			depth--;
			inside = false;
		} else if (inside && !strcmp(c.name, property)) {
			*size = c.size;
			return c.data;
		}
	}
	return NULL;
}

const char *fdt_text(const char *node, const char *property)
{
	uint32_t size;
	const char *data = find(node, property, &size);

	return data && size && !data[size - 1] ? data : NULL;
}

bool fdt_number(const char *node, const char *property, uint64_t *value)
{
	uint32_t size;
	const char *data = find(node, property, &size);

	if (!data || (size != 4 && size != 8))
		return false;
	*value = fdt_cells(data, (int)size / 4);
	return true;
}

struct node {
	const char *name, *reg, *compatible;
	uint32_t reg_size;
	int address_cells, size_cells;   /* of its children */
};

static int add_regions(const struct node *node, const struct node *parent,
		       struct region *regions, int count, int limit)
{
	int address = parent->address_cells, size = parent->size_cells;
	uint32_t step = 4 * (uint32_t)(address + size);

	if (!node->reg || !size || address > 2 || size > 2)
		return count;
	for (uint32_t at = 0; at + step <= node->reg_size && count < limit; at += step) {
		struct region *r = &regions[count];
		size_t length = 0;

		r->start = fdt_cells(node->reg + at, address);
		r->size = fdt_cells(node->reg + at + 4 * address, size);
		r->compatible = node->compatible;
		while (node->name[length] && node->name[length] != '@'
		       && length + 1 < sizeof r->name)
			length++;
		memcpy(r->name, node->name, length);
		r->name[length] = 0;
		count += r->size != 0;
	}
	return count;
}

int fdt_regions(struct region *regions, int limit)
{
	struct node stack[DEPTH] = { { .address_cells = 2, .size_cells = 1 } };
	struct fdt_cursor c;
	int depth = 0, count = 0;

	fdt_start(&c);
	for (enum fdt_token t = fdt_next(&c); t != FDT_END; t = fdt_next(&c)) {
		struct node *node = &stack[depth];

		if (t == FDT_BEGIN && depth + 1 < DEPTH) {
			stack[++depth] = (struct node){ .name = c.name, .address_cells = 2,
							.size_cells = 1 };
		} else if (t == FDT_END_NODE && depth > 0) {
			count = add_regions(node, node - 1, regions, count, limit);
			depth--;
		} else if (t == FDT_PROPERTY) {
			if (!strcmp(c.name, "reg"))
				node->reg = c.data, node->reg_size = c.size;
			else if (!strcmp(c.name, "compatible"))
				node->compatible = c.data;
			else if (!strcmp(c.name, "#address-cells"))
				node->address_cells = (int)fdt_u32(c.data);
			else if (!strcmp(c.name, "#size-cells"))
				node->size_cells = (int)fdt_u32(c.data);
		} else {
			break;           /* deeper than any real tree */
		}
	}
	return count;
}

/* Whether one of the names in a node's `compatible` is this one. */
static bool is_compatible(const struct fdt_cursor *c, const char *wanted)
{
	for (const char *text = c->data; text < c->data + c->size; text += strlen(text) + 1)
		if (!strcmp(text, wanted))
			return true;
	return false;
}

uint64_t fdt_device(const char *compatible)
{
	struct fdt_cursor c;
	const char *reg = NULL;
	bool matched = false;

	fdt_start(&c);
	for (enum fdt_token t = fdt_next(&c); t != FDT_END; t = fdt_next(&c)) {
		if (t == FDT_PROPERTY) {
			if (!strcmp(c.name, "reg") && c.size >= 8)
				reg = c.data;
			else if (!strcmp(c.name, "compatible"))
				matched = is_compatible(&c, compatible);
			if (matched && reg)
				return fdt_cells(reg, 2);
		} else {
			reg = NULL;
			matched = false;
		}
	}
	return 0;
}
