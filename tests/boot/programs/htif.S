# Prints a line through HTIF, then ends with STATUS: 0 is a pass.

	.section .text
	.globl	_start
_start:
	la	a0, message
	la	a3, tohost
	li	a4, (1 << 56) | (1 << 48)	# device 1, command 1: put a character
1:	lbu	a1, 0(a0)
	beqz	a1, 3f
	or	a1, a1, a4
	sd	a1, 0(a3)
2:	ld	a1, 0(a3)
	bnez	a1, 2b
	addi	a0, a0, 1
	j	1b
3:	li	a1, (STATUS << 1) | 1
	sd	a1, 0(a3)
4:	j	4b

message:
	.asciz	"printed by a bare program\n"

	.section .tohost, "aw"
	.balign	64
	.globl	tohost
tohost:
	.dword	0
	.size	tohost, 8
	.balign	64
	.globl	fromhost
fromhost:
	.dword	0
	.size	fromhost, 8
