"""Control of a running machine: QMP for programs, HMP for people."""

from ratite.monitor.hub import MonitorHub
from ratite.monitor.vm import OptionInfo

__all__ = ["MonitorHub", "OptionInfo"]
