"""Linux kernel modules: which others each needs, and which device it drives.

Source: modprobe.d(5), depmod(8), modules.dep(5): a module's `.modinfo` section names both.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst")


@dataclass(frozen=True, slots=True)
class Module:
    """One loadable module, decompressed."""

    path: str  # below /lib/modules/VERSION, without a compression suffix
    content: bytes
    depends: tuple[str, ...]  # module names, underscores
    aliases: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name that the kernel uses: underscores, no suffix."""
        return module_name(self.path)


def module_name(path: str) -> str:
    """`kernel/drivers/char/hw_random/virtio-rng.ko.xz` is `virtio_rng`."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def is_module(path: str) -> bool:
    """Whether a file of this name is a kernel module."""
    return path.endswith(_SUFFIXES)


def load_order(files: Mapping[str, bytes], wanted: Iterable[str]) -> list[Module]:
    """The wanted modules and all that they need, each after those it needs.

    `files` maps paths (`kernel/...ko.xz`) to contents as shipped. A wanted name that is not there
    is built into the kernel or unknown to it, and left out.
    """
    paths = {module_name(path): path for path in files}
    ordered: dict[str, Module] = {}

    def visit(name: str) -> None:
        if name in ordered or name not in paths:
            return
        path = paths[name]
        module = _read(path, files[path])
        for other in module.depends:
            visit(other)
        ordered[name] = module

    for name in wanted:
        visit(name)
    return list(ordered.values())


def indexes(modules: Iterable[Module]) -> tuple[str, str]:
    """The text of `modules.dep` and of `modules.alias`, as modprobe reads them."""
    listed = list(modules)
    by_name = {module.name: module for module in listed}

    def closure(module: Module) -> Iterator[Module]:
        for name in module.depends:
            if name in by_name:
                yield by_name[name]
                yield from closure(by_name[name])

    dep = [
        " ".join([f"{module.path}:", *dict.fromkeys(other.path for other in closure(module))])
        for module in listed
    ]
    alias = [f"alias {alias} {module.name}" for module in listed for alias in module.aliases]
    return "\n".join(dep) + "\n", "\n".join(alias) + "\n"


def _read(path: str, shipped: bytes) -> Module:
    content = _decompress(path, shipped)
    info = _modinfo(content)
    return Module(
        path=path[: path.rindex(".ko") + len(".ko")],
        content=content,
        depends=tuple(name.replace("-", "_") for name in _values(info, "depends") if name),
        aliases=tuple(alias for key, alias in info if key == "alias"),
    )


def _decompress(path: str, shipped: bytes) -> bytes:
    if path.endswith(".xz"):
        return lzma.decompress(shipped)
    if path.endswith(".zst"):
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(shipped)
    return shipped


def _modinfo(content: bytes) -> list[tuple[str, str]]:
    from elftools.elf.elffile import ELFFile

    section = ELFFile(io.BytesIO(content)).get_section_by_name(".modinfo")
    if section is None:
        return []
    pairs = []
    for entry in section.data().split(b"\0"):
        key, _, value = entry.decode("utf-8", "replace").partition("=")
        if key:
            pairs.append((key, value))
    return pairs


def _values(info: Iterable[tuple[str, str]], key: str) -> Iterator[str]:
    for name, value in info:
        if name == key:
            yield from value.split(",")
