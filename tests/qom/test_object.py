"""The composition tree, links, reset order, and the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.core import ConfigError
from ratite.qom import (
    Container,
    Object,
    PropertyError,
    PropertyInfo,
    Registry,
    find_type,
    registry,
    reset_tree,
)


class Leaf(Object):
    type_name = "test-leaf"

    def __init__(self, *, speed: int = 3) -> None:
        self.speed = speed
        super().__init__()
        self.phases: list[str] = []


@pytest.fixture
def root() -> Container:
    root = Container()
    box = Container()
    root.add_child("box", box)
    box.add_child("device[*]", Leaf())
    box.add_child("device[*]", Leaf())
    return root


def test_paths_start_at_the_root(root: Container) -> None:
    leaf = root.children["box"].children["device[1]"]
    assert leaf.path == "/box/device[1]" and leaf.name == "device[1]"
    assert root.path == "/"


def test_numbers_of_removed_children_are_used_again(root: Container) -> None:
    box = root.children["box"]
    box.children["device[0]"].unparent()
    box.add_child("device[*]", Leaf())
    assert sorted(box.children) == ["device[0]", "device[1]"]


def test_a_taken_name_is_refused(root: Container) -> None:
    with pytest.raises(ConfigError, match="duplicate id 'box'"):
        root.add_child("box", Container())


def test_an_object_has_one_parent(root: Container) -> None:
    with pytest.raises(AssertionError):
        root.add_child("again", root.children["box"])


def test_absolute_and_partial_paths_resolve(root: Container) -> None:
    leaf = root.children["box"].children["device[1]"]
    assert root.resolve("/box/device[1]") is leaf
    assert root.resolve("device[1]") is leaf
    assert root.resolve("box/device[1]") is leaf
    assert root.resolve("/") is root
    assert root.resolve("/box/none") is None
    assert root.resolve("/box/none/deeper") is None
    assert root.resolve("") is None


def test_an_ambiguous_partial_path_resolves_to_nothing(root: Container) -> None:
    other = Container()
    root.add_child("other", other)
    other.add_child("device[1]", Leaf())
    assert root.resolve("device[1]") is None


def test_links_are_followed_and_listed(root: Container) -> None:
    leaf = root.children["box"].children["device[0]"]
    root.set_link("favourite", "test-leaf", leaf)
    root.set_link("nothing", "test-leaf", None)
    assert root.resolve("/favourite") is leaf
    assert root.get_property("favourite") == "/box/device[0]"
    assert root.get_property("nothing") == ""
    assert root.get_property("box") == "/box"
    assert root.list_properties() == [
        PropertyInfo("type", "string"),
        PropertyInfo("favourite", "link<test-leaf>"),
        PropertyInfo("nothing", "link<test-leaf>"),
        PropertyInfo("box", "child<container>"),
    ]


def test_properties_are_listed_read_and_set(root: Container) -> None:
    leaf = Leaf(speed=7)
    assert PropertyInfo("speed", "int") in leaf.list_properties()
    assert leaf.get_property("speed") == 7
    assert leaf.get_property("type") == "test-leaf"
    leaf.set_property("speed", "9")
    assert leaf.speed == 9


def test_errors_are_qemus() -> None:
    leaf = Leaf()
    with pytest.raises(PropertyError, match=r"^Property 'test-leaf\.nn' not found$"):
        leaf.get_property("nn")
    with pytest.raises(PropertyError, match=r"^Property 'test-leaf\.nn' not found$"):
        leaf.set_property("nn", 1)
    with pytest.raises(PropertyError, match=r"^Property 'test-leaf\.type' is not writable$"):
        leaf.set_property("type", "x")


def test_reset_runs_each_phase_over_the_whole_tree_children_first() -> None:
    log: list[str] = []

    class Noisy(Object):
        def __init__(self, tag: str) -> None:
            super().__init__()
            self.tag = tag

        def reset_enter(self) -> None:
            log.append(f"enter {self.tag}")

        def reset_hold(self) -> None:
            log.append(f"hold {self.tag}")

        def reset_exit(self) -> None:
            log.append(f"exit {self.tag}")

    parent, child = Noisy("parent"), Noisy("child")
    parent.add_child("child", child)
    reset_tree(parent)
    assert log == [
        f"{phase} {tag}" for phase in ("enter", "hold", "exit") for tag in ("child", "parent")
    ]


def test_a_class_is_found_by_its_type_name() -> None:
    assert find_type("test-leaf") is Leaf
    assert find_type("no-such-type") is None


def test_a_type_is_found_by_its_source_without_a_list() -> None:
    cls = find_type("riscv.sifive.test")
    assert cls is not None and cls.__module__ == "ratite.devices.misc.sifive_test"
    assert "serial-mm" in registry.names()


def test_a_scan_imports_only_the_module_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "imagined"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text('raise RuntimeError\nclass A:\n    type_name = "a"\n')
    (package / "fine.py").write_text('class B:\n    type_name = "b"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    types = Registry("imagined")
    assert types.names() == ["a", "b"]
    assert types.find("b") is None  # imported, though nothing there registered
    with pytest.raises(RuntimeError):
        types.find("a")


def test_two_classes_cannot_share_a_type_name() -> None:
    with pytest.raises(AssertionError, match="two classes"):

        class Impostor(Object):
            type_name = "test-leaf"
