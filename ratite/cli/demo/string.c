#include "demo.h"

void *memcpy(void *to, const void *from, size_t size)
{
	return memmove(to, from, size);
}

void *memmove(void *to, const void *from, size_t size)
{
	char *t = to;
	const char *f = from;

	if (t < f) {
		for (size_t i = 0; i < size; i++)
			t[i] = f[i];
	} else {
		for (size_t i = size; i > 0; i--)
			t[i - 1] = f[i - 1];
	}
	return to;
}

void *memset(void *to, int value, size_t size)
{
	char *t = to;

	for (size_t i = 0; i < size; i++)
		t[i] = (char)value;
	return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const unsigned char *x = a, *y = b;

	for (size_t i = 0; i < size; i++)
		if (x[i] != y[i])
			return x[i] - y[i];
	return 0;
}

size_t strlen(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return (unsigned char)*a - (unsigned char)*b;
}

bool contains(const char *text, const char *part)
{
	size_t length = strlen(part);

	for (; strlen(text) >= length; text++)
		if (!memcmp(text, part, length))
			return true;
	return false;
}
