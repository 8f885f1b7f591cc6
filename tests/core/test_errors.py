"""The error tree."""

from __future__ import annotations

import errno

from ratite.core import ConfigError, HostError, InternalError, RatiteError


def test_every_kind_is_a_ratite_error() -> None:
    assert all(issubclass(kind, RatiteError) for kind in (ConfigError, HostError, InternalError))


def test_a_host_error_says_what_was_attempted_on_which_path_and_why() -> None:
    cause = OSError(errno.ENOENT, "No such file or directory")
    error = HostError.from_os("open the image", cause, "/x/disk.img")
    assert str(error) == "cannot open the image '/x/disk.img': No such file or directory"
    assert error.errno == errno.ENOENT


def test_a_host_error_without_a_path_or_number_is_still_readable() -> None:
    assert str(HostError.from_os("listen", OSError("odd"))) == "cannot listen: odd"
