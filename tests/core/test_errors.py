"""The error tree."""

from __future__ import annotations

import errno

import pytest

from ratite.core import ConfigError, HostError, InternalError, RatiteError, blaming
from ratite.core.errors import located


def test_every_kind_is_a_ratite_error() -> None:
    assert all(issubclass(kind, RatiteError) for kind in (ConfigError, HostError, InternalError))


def test_a_host_error_says_what_was_attempted_on_which_path_and_why() -> None:
    cause = OSError(errno.ENOENT, "No such file or directory")
    error = HostError.from_os("open the image", cause, "/x/disk.img")
    assert str(error) == "cannot open the image '/x/disk.img': No such file or directory"
    assert error.errno == errno.ENOENT


def test_a_host_error_without_a_path_or_number_is_still_readable() -> None:
    assert str(HostError.from_os("listen", OSError("odd"))) == "cannot listen: odd"


@pytest.mark.parametrize("kind", [ConfigError, HostError])
def test_people_are_told_what_they_can_do_about_it(kind: type[RatiteError]) -> None:
    error = kind("it is locked", hint="unlock it")
    assert (str(error), error.text) == ("it is locked; unlock it", "it is locked")
    with pytest.raises(kind) as caught, blaming("-drive"):
        raise error
    assert str(caught.value) == "-drive: it is locked; unlock it"
    assert caught.value.text == "-drive: it is locked"
    with pytest.raises(kind) as caught, located("file:3"), blaming("-drive"):
        raise error
    assert str(caught.value) == "file:3: it is locked; unlock it"
