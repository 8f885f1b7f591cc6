"""The options of each kind of character backend, by the names that `-chardev` gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ratite.qom import Doc, Named, PropertyGroup, Size, UInt16, UInt32


@dataclass(frozen=True, kw_only=True)
class CommonOptions(PropertyGroup):
    """What every kind takes."""

    logfile: Annotated[str | None, Doc("copy the output to this file")] = None
    logappend: Annotated[bool, Doc("append to the log file instead of replacing it")] = False


@dataclass(frozen=True, kw_only=True)
class StdioOptions(CommonOptions):
    """Options of `stdio`."""

    signal: Annotated[bool, Doc("Ctrl-C and its like act on ratite, not on the guest")] = True


@dataclass(frozen=True, kw_only=True)
class FileOptions(CommonOptions):
    """Options of `file`."""

    path: Annotated[str, Doc("output file")]
    append: Annotated[bool, Doc("append to the file instead of replacing its content")] = False
    input_path: Annotated[str | None, Doc("file to read input from")] = None


@dataclass(frozen=True, kw_only=True)
class PipeOptions(CommonOptions):
    """Options of `pipe`."""

    path: Annotated[str, Doc("named pipe, or common part of two named .in and .out")]


@dataclass(frozen=True, kw_only=True)
class RingbufOptions(CommonOptions):
    """Options of `ringbuf`."""

    size: Annotated[Size, Doc("bytes kept, a power of two")] = 65536


@dataclass(frozen=True, kw_only=True)
class SocketOptions(CommonOptions):
    """Options of `socket`: one of `path` (Unix), `port` (TCP) and `fd` is given."""

    path: Annotated[str | None, Doc("Unix socket")] = None
    abstract: Annotated[bool, Doc("the Unix socket has a name of its own, not a file's")] = False
    host: Annotated[
        str, Doc("TCP host; without one this host only, a server's '*' is all addresses")
    ] = ""
    port: Annotated[str | None, Doc("TCP port, by number or by service name")] = None
    to: Annotated[UInt16, Doc("a server takes the first free port up to this one")] = 0
    ipv4: Annotated[bool, Doc("use IPv4 addresses")] = True
    ipv6: Annotated[bool, Doc("use IPv6 addresses")] = True
    fd: Annotated[str | None, Doc("number of a socket that was handed to the process")] = None
    server: Annotated[bool, Doc("listen instead of connecting")] = False
    wait: Annotated[bool, Doc("a server starts only with its first client")] = True
    nodelay: Annotated[bool, Doc("send small pieces at once")] = True
    reconnect: Annotated[UInt32, Doc("a client tries again after this many seconds; 0: never")] = 0
    telnet: Annotated[bool, Doc("speak the telnet protocol")] = False


@dataclass(frozen=True, kw_only=True)
class MuxOptions(CommonOptions):
    """Options of `mux`."""

    chardev: Annotated[str, Named("chardev"), Doc("id of the backend to share")] = ""


DEFAULTS = CommonOptions()
STDIO_DEFAULTS = StdioOptions()
RINGBUF_DEFAULTS = RingbufOptions()
SOCKET_DEFAULTS = SocketOptions()
MUX_DEFAULTS = MuxOptions()
