"""Annotations that say how a type is written in JSON, for types declared below the monitor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tagged:
    """Annotation of a union: the member that says which case it is, and the union's name.

    With `nested`, the other members are in an object of their own, under that name.
    """

    tag: str
    name: str
    nested: str = ""


@dataclass(frozen=True, slots=True)
class Either:
    """Annotation of a union whose value alone says which case it is (an object or a text), and the
    union's name.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Feature:
    """Annotation of a member: a word that clients may look for, `deprecated` for one."""

    name: str
