#include "demo.h"

enum { HISTORY = 8, LINE = 128 };
enum { CTRL_A = 1, CTRL_B, CTRL_C, CTRL_D, CTRL_E, CTRL_F, CTRL_H = 8, CTRL_K = 11, CTRL_L = 12,
       CTRL_N = 14, CTRL_P = 16, CTRL_U = 21, CTRL_W = 23, ESCAPE = 27, DELETE = 127 };

static char history[HISTORY][LINE];
static unsigned remembered;              /* lines ever entered */

struct editor {
	const char *prompt;
	char *line;
	size_t size, length, at;
	unsigned back;                   /* how many lines into the past; 0: the new one */
};

static void redraw(const struct editor *e)
{
	put("\r");
	put(e->prompt);
	put(e->line);
	put("\033[K");
	for (size_t i = e->length; i > e->at; i--)
		put("\b");
}

static void erase(struct editor *e, size_t from, size_t to)
{
	memmove(e->line + from, e->line + to, e->length - to + 1);
	e->length -= to - from;
	e->at = from;
}

static void insert(struct editor *e, char c)
{
	if (e->length + 1 >= e->size)
		return;
	memmove(e->line + e->at + 1, e->line + e->at, e->length - e->at + 1);
	e->line[e->at++] = c;
	e->length++;
}

static void recall(struct editor *e, unsigned back)
{
	unsigned kept = remembered < HISTORY ? remembered : HISTORY;

	if (back > kept)
		return;
	e->back = back;
	e->line[0] = 0;
	if (back)
		memcpy(e->line, history[(remembered - back) % HISTORY], LINE);
	e->length = e->at = strlen(e->line);
}

static void remember(const char *line)
{
	if (*line && (!remembered || strcmp(line, history[(remembered - 1) % HISTORY])))
		memcpy(history[remembered++ % HISTORY], line, strlen(line) + 1);
}

static size_t word_start(const struct editor *e)
{
	size_t at = e->at;

	while (at && e->line[at - 1] == ' ')
		at--;
	while (at && e->line[at - 1] != ' ')
		at--;
	return at;
}

/* ESC [ X, ESC O X and ESC [ N ~ as the control key that does the same; 0 for others. */
static int escape_sequence(void)
{
	int c = wait_char(), number = 0;

	if (c != '[' && c != 'O')
		return 0;
	for (c = wait_char(); c >= '0' && c <= '9'; c = wait_char())
		number = number * 10 + c - '0';
	switch (c == '~' ? number : c) {
	case 'A': return CTRL_P;
	case 'B': return CTRL_N;
	case 'C': return CTRL_F;
	case 'D': return CTRL_B;
	case 'H': case 1: case 7: return CTRL_A;
	case 'F': case 4: case 8: return CTRL_E;
	case 3: return CTRL_D;
	default: return 0;
	}
}

static void edit(struct editor *e, int c)
{
	switch (c) {
	case CTRL_A: e->at = 0; break;
	case CTRL_B: e->at -= e->at > 0; break;
	case CTRL_D: if (e->at < e->length) erase(e, e->at, e->at + 1); break;
	case CTRL_E: e->at = e->length; break;
	case CTRL_F: e->at += e->at < e->length; break;
	case CTRL_H: case DELETE: if (e->at) erase(e, e->at - 1, e->at); break;
	case CTRL_K: erase(e, e->at, e->length); break;
	case CTRL_L: put("\033[H\033[2J"); break;
	case CTRL_N: if (e->back) recall(e, e->back - 1); break;
	case CTRL_P: recall(e, e->back + 1); break;
	case CTRL_U: erase(e, 0, e->at); break;
	case CTRL_W: erase(e, word_start(e), e->at); break;
	default: if (c >= ' ' && c < DELETE) insert(e, (char)c);
	}
}

size_t read_line(const char *prompt, char *line, size_t size)
{
	struct editor e = { prompt, line, size < LINE ? size : LINE, 0, 0, 0 };
	int c;

	line[0] = 0;
	put(prompt);
	while ((c = wait_char()) != '\r' && c != '\n') {
		if (c == CTRL_C) {
			put("^C\n");
			erase(&e, 0, e.length);
		}
		bool at_end = e.at == e.length;
		edit(&e, c == ESCAPE ? escape_sequence() : c);
		if (at_end && c >= ' ' && c < DELETE && e.at == e.length && e.length + 1 < e.size)
			put_char((char)c);
		else
			redraw(&e);
	}
	put("\n");
	remember(line);
	return e.length;
}
