"""The gdb remote protocol: a machine's vCPUs as threads of a program that gdb debugs."""

from ratite.gdb.control import Host, RunControl
from ratite.gdb.registers import Feature, Register, RegisterFile
from ratite.gdb.server import GdbServer, registers_of

__all__ = ["Feature", "GdbServer", "Host", "Register", "RegisterFile", "RunControl", "registers_of"]
