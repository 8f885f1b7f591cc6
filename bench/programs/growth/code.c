/* Calls generated code, of which every instruction is executed once a call. */
#include "bench.h"

uint64_t generated(void);

uint64_t bench(void)
{
	return generated();
}
