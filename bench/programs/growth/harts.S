/* Entry of a bare program for several harts: all of them work, hart 0 reports. */

	.section .text.start, "ax"
	.globl	_start
_start:
	csrr	a0, mhartid
	la	sp, _stack_top
	slli	t0, a0, 14
	sub	sp, sp, t0		/* 16 KiB of stack each */
	bnez	a0, 2f
	la	t0, _bss
	la	t1, _end
1:	bgeu	t0, t1, 2f
	sd	zero, 0(t0)
	addi	t0, t0, 8
	j	1b
2:	la	t0, go			/* in .data: not cleared by hart 0 */
	bnez	a0, 3f
	li	t1, 1
	fence	rw, rw
	sw	t1, 0(t0)
	call	bare_main
	j	4f
3:	lw	t1, 0(t0)
	beqz	t1, 3b
	fence	rw, rw
	call	helper
4:	wfi
	j	4b

	.data
	.balign	64
go:	.word	0
	.balign	64
