"""The pytest plugin: `vm`, a machine that runs, and `make_vm`, which makes as many as a test needs.

    @pytest.mark.vm(kernel="vmlinuz", initrd="initrd.cpio", append="console=ttyS0", memory="512M")
    def test_the_guest_knows_its_machine(vm):
        vm.expect("~ # ")
        vm.send("uname -m\\n")
        vm.expect("riscv64")

Loaded by every pytest of an environment that has ratite: so nothing of ratite is imported before a
test asks for a machine.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from ratite.testing import GuestVm

MARKER = (
    "vm(*options, timeout=..., log=..., start=True, **arguments): the machine of the fixture `vm`: "
    "words of a command line, and arguments of ratite.Vm"
)
Machines = list["GuestVm"]
_MACHINES = pytest.StashKey[Machines]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The defaults that a project or a user sets."""
    parser.addini("vm_timeout", "seconds that the fixture `vm` waits for output", default="30")
    group = parser.getgroup("ratite")
    group.addoption(
        "--vm-log", default="", metavar="ITEMS", help="log of all machines, as -d takes it"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker means."""
    config.addinivalue_line("markers", MARKER)


MakeVm = Callable[..., "GuestVm"]


@pytest.fixture
def vm_arguments() -> dict[str, Any]:
    """What machines are made of where the marker says nothing else: a project overrides this."""
    return {}


@pytest.fixture
def make_vm(
    request: pytest.FixtureRequest, tmp_path: Path, vm_arguments: dict[str, Any]
) -> Iterator[MakeVm]:
    """Makes machines, from what the marker `vm` takes: `make_vm("-smp 2", kernel=path)`. They run,
    unless `start=False` or `-S` says otherwise, and end with the test.
    """
    machines: Machines = []
    request.node.stash[_MACHINES] = machines
    with ExitStack() as closing:

        def make(*options: str, **arguments: Any) -> GuestVm:
            words = [word for text in options for word in shlex.split(text)]
            given = {**vm_arguments, **arguments}
            vm = _build(request.config, tmp_path / f"vm{len(machines)}", words, given)
            machines.append(vm)
            closing.callback(_close, vm)
            if given.get("start", True) and not vm.config.start_paused:
                vm.start()
            return vm

        yield make


@pytest.fixture
def vm(request: pytest.FixtureRequest, make_vm: MakeVm) -> GuestVm:
    """A machine that runs, as the marker `vm` describes it: markers of the module, class and
    function together, the nearest last, and then the parameter of an indirect parametrization.
    """
    options: list[str] = []
    arguments: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("vm"))):
        options += marker.args
        arguments |= marker.kwargs
    return make_vm(*options, **{**arguments, **getattr(request, "param", {})})


def _build(config: pytest.Config, stem: Path, words: list[str], given: dict[str, Any]) -> GuestVm:
    from ratite import RatiteError, Vm
    from ratite.testing import GuestVm

    arguments = {name: value for name, value in given.items() if name not in _OWN}
    known = inspect.signature(Vm).parameters
    for name in arguments:
        if name not in known:
            _refuse(f"no argument '{name}'; there are {', '.join((*known, *_OWN))}")
    try:
        return GuestVm(
            stem,
            arguments,
            words,
            timeout=float(given.get("timeout", config.getini("vm_timeout"))),
            log=given.get("log", config.getoption("--vm-log")),
        )
    except RatiteError as error:
        _refuse(str(error))


def _refuse(reason: str) -> NoReturn:
    pytest.fail(f"the machine cannot be made: {reason}", pytrace=False)


_OWN = ("timeout", "log", "start")


def _close(vm: GuestVm) -> None:
    """End a machine; a bug of ratite's that ended it before is not passed over."""
    try:
        vm.wait(0)
    finally:
        vm.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Add what the machines have to say to the report of a test that failed."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if not report.failed or report.when == "teardown":
        return
    machines = item.stash.get(_MACHINES, [])
    for number, machine in enumerate(machines):
        name = "vm" if len(machines) == 1 else f"vm {number}"
        report.sections += [(f"{name}: {title}", text) for title, text in machine.last_words()]
