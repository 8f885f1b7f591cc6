/* Entry of a bare program in machine mode, at the start of RAM of the `virt` board. */

	.section .text.start, "ax"
	.globl	_start
_start:
	la	sp, _stack_top
	li	t0, 1 << 13		/* mstatus.FS: the FPU is on */
	csrs	mstatus, t0
	csrw	fcsr, zero
	la	t0, _bss
	la	t1, _end
1:	bgeu	t0, t1, 2f
	sd	zero, 0(t0)
	addi	t0, t0, 8
	j	1b
2:	call	bare_main
3:	wfi
	j	3b
