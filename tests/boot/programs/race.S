# Two harts change one word without agreeing on an order, interrupted by their timers; what comes out
# depends on how they were interleaved. Hart 0 prints it and powers the machine off.

	.equ	UART, 0x10000000
	.equ	FINISHER, 0x100000
	.equ	MTIMECMP, 0x2004000
	.equ	MTIME, 0x200bff8
	.equ	ROUNDS, 300000
	.equ	TICKS, 777

	.section .text
	.globl	_start
_start:
	csrr	s0, mhartid
	la	t0, on_timer
	csrw	mtvec, t0
	li	s1, MTIMECMP
	slli	t0, s0, 3
	add	s1, s1, t0
	li	s2, MTIME
	call	next_tick
	li	t0, 1 << 7
	csrw	mie, t0
	csrsi	mstatus, 8
	la	s3, word
	li	s4, ROUNDS
1:	ld	t0, 0(s3)		# a xorshift step, not atomic on purpose
	xor	t0, t0, s0
	slli	t1, t0, 13
	xor	t0, t0, t1
	srli	t1, t0, 7
	xor	t0, t0, t1
	slli	t1, t0, 17
	xor	t0, t0, t1
	sd	t0, 0(s3)
	addi	s4, s4, -1
	bnez	s4, 1b
	csrci	mstatus, 8
	la	t0, finished
	li	t1, 1
	amoadd.d zero, t1, (t0)
	bnez	s0, 3f
2:	ld	t1, (t0)
	li	t2, 2
	bne	t1, t2, 2b
	ld	a0, 0(s3)
	call	print
	la	t0, interrupts
	ld	a0, 0(t0)
	call	print
	csrr	a0, minstret
	call	print
	li	t0, FINISHER
	li	t1, 0x5555
	sw	t1, 0(t0)
3:	wfi
	j	3b

next_tick:
	ld	t6, 0(s2)
	addi	t6, t6, TICKS
	sd	t6, 0(s1)
	ret

	.balign	4
on_timer:				# mixes in when it came
	csrr	t5, minstret
	ld	t4, 0(s3)
	add	t4, t4, t5
	sd	t4, 0(s3)
	la	t5, interrupts
	li	t4, 1
	amoadd.d zero, t4, (t5)
	mv	s5, ra
	call	next_tick
	mv	ra, s5
	mret

print:					# a0, 16 digits
	li	t0, UART
	li	t1, 60
1:	srl	t2, a0, t1
	andi	t2, t2, 15
	la	t3, digits
	add	t3, t3, t2
	lbu	t3, 0(t3)
	sb	t3, 0(t0)
	addi	t1, t1, -4
	bgez	t1, 1b
	li	t3, 10
	sb	t3, 0(t0)
	ret

digits:	.ascii	"0123456789abcdef"
	.balign	8
word:	.dword	1
finished:
	.dword	0
interrupts:
	.dword	0
