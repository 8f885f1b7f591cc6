/* Entry: a0 is the hart's id, a1 the device tree. The first bytes are a Linux Image header, so that
 * whatever loads a kernel loads this. */

	.section .text.start, "ax"
	.globl _start
_start:
	j	enter
	.balign	8
	.dword	0x200000		/* from the start of memory */
	.dword	_end - _start
	.dword	0			/* little endian */
	.word	2			/* header version 0.2 */
	.word	0
	.dword	0
	.ascii	"RISCV\0\0\0"
	.ascii	"RSC\005"
	.word	0

enter:
	csrw	sie, zero
	la	t0, trap_entry
	csrw	stvec, t0
	la	sp, _stack_top
	la	t0, _bss
	la	t1, _zeroed
1:	sd	zero, (t0)
	addi	t0, t0, 8
	bltu	t0, t1, 1b
	call	demo_main
2:	wfi
	j	2b

/* An exception: either one that read_instret provokes on purpose, or the end. */
	.balign	4
trap_entry:
	la	t0, trap_expected
	ld	t1, (t0)
	beqz	t1, 3f
	sd	zero, (t0)
	csrr	t1, sepc
	addi	t1, t1, 4
	csrw	sepc, t1
	sret
3:	la	sp, _stack_top
	csrr	a0, scause
	csrr	a1, sepc
	csrr	a2, stval
	tail	trap_report

/* bool read_instret(uint64_t *value): t0 and t1 are the trap's to use. */
	.globl read_instret
read_instret:
	la	t2, trap_expected
	li	t3, 1
	sd	t3, (t2)
	rdinstret a1
	ld	a2, (t2)
	sd	zero, (t2)
	beqz	a2, 4f
	sd	a1, (a0)
4:	mv	a0, a2
	ret

	.bss
	.balign	8
trap_expected:
	.dword	0
