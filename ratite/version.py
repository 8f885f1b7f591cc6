"""The version of ratite: one place, read by the build and printed by `-version`."""

VERSION = "0.1.0"
