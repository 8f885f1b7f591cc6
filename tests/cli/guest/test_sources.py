"""Reading apt's sources, in both file forms."""

from pathlib import Path

from ratite.cli.guest.sources import Source, parse_deb822, parse_list, read_sources


def test_a_line_with_options() -> None:
    (source,) = parse_list(
        "# comment\n"
        "deb [ arch=amd64,arm64 signed-by=/k.gpg check-valid-until=no ] http://m/debian"
        " bookworm main contrib # more\n"
    )
    assert source.uris == ("http://m/debian",)
    assert source.suites == ("bookworm",)
    assert source.components == ("main", "contrib")
    assert source.options["signed-by"] == "/k.gpg"
    assert source.is_debian


def test_a_line_without_options() -> None:
    (source,) = parse_list("deb http://m/debian sid main\n")
    assert source.is_debian and source.options == {}


def test_lines_that_are_no_entries_are_skipped() -> None:
    assert list(parse_list("deb\ndeb [ x\nfoo http://m sid main\n\n")) == []


def test_a_stanza_with_several_values_and_an_inline_key() -> None:
    text = (
        "Types: deb deb-src\nURIs: http://a/debian\n http://b/debian\n"
        "Suites: trixie trixie-updates\nComponents: main\n"
        "# comment\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )
    (source,) = parse_deb822(text)
    assert source.uris == ("http://a/debian", "http://b/debian")
    assert source.is_debian
    assert source.options["signed-by"].splitlines()[2] == " ."


def test_a_disabled_stanza_is_left_out() -> None:
    assert list(parse_deb822("Enabled: no\nTypes: deb\nURIs: u\nSuites: sid\n")) == []


def test_other_archives_are_not_taken_for_debian() -> None:
    lines = (
        "deb http://m/debian-security bookworm-security main\n"
        "deb http://m/ubuntu noble main\n"
        "deb-src http://m/debian sid main\n"
        "deb http://m/tool stable contrib\n"
    )
    assert [source.is_debian for source in parse_list(lines)] == [False] * 4


def test_the_new_stanza_keeps_the_mirror_and_how_it_is_checked() -> None:
    source = Source(
        ("deb",),
        ("http://m/debian",),
        ("bookworm",),
        ("main", "contrib"),
        {"trusted": "yes", "arch": "amd64", "signed-by": "/k.gpg", "check-valid-until": "no"},
    )
    assert source.deb822(suite="sid", arch="riscv64", keyring="/other.gpg") == (
        "Types: deb\nURIs: http://m/debian\nSuites: sid\nComponents: main\n"
        "Architectures: riscv64\nCheck-Valid-Until: no\nSigned-By: /k.gpg\n"
    )


def test_the_keyring_fills_in_for_a_missing_key() -> None:
    source = Source(("deb",), ("http://m",), ("sid",), ("main",))
    assert "Signed-By: /k.gpg\n" in source.deb822(suite="sid", arch="a", keyring="/k.gpg")


def test_files_and_directories_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://one sid main\n")
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "b.list").write_text("deb http://three sid main\n")
    (parts / "a.sources").write_text("Types: deb\nURIs: http://two\nSuites: sid\n")
    (parts / "c.list.bak").write_text("deb http://four sid main\n")
    found = read_sources([tmp_path / "sources.list", parts, tmp_path / "missing"])
    assert [source.uris[0] for source in found] == ["http://one", "http://two", "http://three"]
