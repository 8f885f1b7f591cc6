"""Secrets: where they come from, and that they stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.core.errors import ConfigError
from ratite.machines.secret import SIZE_LIMIT, Secret
from ratite.qom import keyword_arguments


def secret(**properties: str) -> Secret:
    made = Secret(**keyword_arguments(Secret, properties))
    made.complete()
    return made


def test_a_secret_comes_from_a_file_or_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"letmein")
    assert secret(file=str(file)).value == b"letmein"
    assert secret(data="letmein").value == b"letmein"
    assert secret(data="bGV0bWVpbg==", format="base64").value == b"letmein"


def test_a_secret_is_not_told() -> None:
    made = secret(data="letmein")
    values = [made.get_property(info.name) for info in made.list_properties()]
    assert "letmein" not in str(values)
    with pytest.raises(ConfigError):
        made.set_property("data", "other")


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"more than {SIZE_LIMIT} bytes"):
        secret(file="/dev/zero")
