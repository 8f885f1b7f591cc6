"""Names of guest code."""

from __future__ import annotations

from ratite.core.symbols import Symbol, Symbols


def test_an_address_within_a_function_has_its_name() -> None:
    symbols = Symbols()
    symbols.add(lambda: [Symbol(0x200, 8, "second"), Symbol(0x100, 0x10, "first")])
    assert [symbols.at(gva) for gva in (0xFF, 0x100, 0x10F, 0x110, 0x200, 0x208)] == [
        "", "first", "first", "", "second", "",
    ]  # fmt: skip


def test_a_function_without_a_size_ends_where_the_next_begins() -> None:
    symbols = Symbols()
    symbols.add(lambda: [Symbol(0x100, 0, "first"), Symbol(0x200, 0, "last")])
    assert [symbols.at(gva) for gva in (0x100, 0x1FF, 0x200)] == ["first", "first", ""]


def test_executables_are_read_when_a_name_is_asked_for() -> None:
    symbols, read = Symbols(), list[int]()

    def source(number: int) -> list[Symbol]:
        read.append(number)
        return [Symbol(number, 1, f"f{number}")]

    symbols.add(lambda: source(1))
    assert not read
    assert symbols.at(1) == "f1"
    symbols.add(lambda: source(2))
    assert (symbols.at(2), symbols.at(1)) == ("f2", "f1")
    assert read == [1, 2]
