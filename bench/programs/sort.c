/* Quicksort of an array, and merge sort and walks of a linked list scattered over memory. */
#include "bench.h"

enum { COUNT = 60000, ROUNDS = 12 };

struct node {
	struct node *next;
	uint32_t key;
};

static uint32_t array[COUNT];
static struct node nodes[COUNT];

static void quicksort(uint32_t *a, long low, long high)
{
	while (low < high) {
		uint32_t pivot = a[(low + high) / 2];
		long i = low, j = high;

		while (i <= j) {
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j) {
				uint32_t t = a[i];

				a[i++] = a[j];
				a[j--] = t;
			}
		}
		if (j - low < high - i) {
			quicksort(a, low, j);
			low = i;
		} else {
			quicksort(a, i, high);
			high = j;
		}
	}
}

static struct node *merge(struct node *a, struct node *b)
{
	struct node head, *tail = &head;

	while (a && b) {
		struct node **least = a->key <= b->key ? &a : &b;

		tail = tail->next = *least;
		*least = (*least)->next;
	}
	tail->next = a ? a : b;
	return head.next;
}

static struct node *merge_sort(struct node *list)
{
	struct node *slow = list, *fast, *second;

	if (!list || !list->next)
		return list;
	for (fast = list->next; fast && fast->next; fast = fast->next->next)
		slow = slow->next;
	second = slow->next;
	slow->next = NULL;
	return merge(merge_sort(list), merge_sort(second));
}

uint64_t bench(void)
{
	uint64_t sum = 0;
	uint32_t seed = 99;

	for (int round = 0; round < ROUNDS; round++) {
		struct node *list = NULL;

		for (unsigned i = 0; i < COUNT; i++) {
			unsigned place = i * 7919u % COUNT;

			array[i] = next_random(&seed);
			nodes[place].key = array[i];
			nodes[place].next = list;
			list = &nodes[place];
		}
		quicksort(array, 0, COUNT - 1);
		list = merge_sort(list);
		for (unsigned i = 0; list; i++, list = list->next)
			sum = mix(sum, (uint64_t)list->key - array[i] + i);
	}
	return sum;
}
