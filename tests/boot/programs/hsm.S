# For the built-in SBI, two harts: the second is suspended, without its state kept, and resumes with
# what it asked for; the first prints that and turns the machine off. What it prints afterwards would
# show that the call returned.

	.equ	HSM, 0x48534d
	.equ	IPI, 0x735049
	.equ	SUSPENDED, 4

	.macro	sbi extension, function
	li	a6, \function
	li	a7, \extension
	ecall
	.endm

	.section .text
	.globl	_start
_start:
	li	a0, 1
	la	a1, second
	li	a2, 0
	sbi	HSM, 0			# start hart 1
	bnez	a0, fail
1:	li	a0, 1
	sbi	HSM, 2			# until it is suspended
	li	t0, SUSPENDED
	bne	a1, t0, 1b
	li	a0, 2
	li	a1, 0
	sbi	IPI, 0
	la	s0, resumed
2:	ld	s1, 0(s0)
	beqz	s1, 2b
	ld	a0, 8(s0)
	addi	a0, a0, '0'
	sbi	1, 0			# its number, a digit
	mv	a0, s1
	sbi	1, 0			# its argument, a character
	sbi	8, 0			# the old call for power off
fail:	li	a0, '!'
	sbi	1, 0
	j	fail

second:
	csrwi	sie, 2
	li	a0, 0x80000000
	la	a1, resume
	li	a2, 'w'
	li	s0, 0
	sbi	HSM, 3
	j	fail

resume:
	la	t0, resumed
	sd	a0, 8(t0)
	fence	rw, rw
	sd	a1, 0(t0)
3:	wfi
	j	3b

	.balign	8
resumed:
	.dword	0, 0
