"""The accelerators as types, among which management tools look to learn what there is."""

from __future__ import annotations

from ratite.qom import Object


class Accelerator(Object):
    """Base of the accelerators."""

    type_name = "accel"


class TcgAccelerator(Accelerator):
    """Guest code is translated."""

    type_name = "tcg-accel"


class QtestAccelerator(Accelerator):
    """Guest code does not run."""

    type_name = "qtest-accel"
