/* The code is generated: see bench/growth_code.py. It uses a0 to a7 and t0 to t6 only. */
	.text
	.balign	4096
	.globl	generated
generated:
	.incbin	CODE
