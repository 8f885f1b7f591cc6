"""Control of a running machine: QMP for programs, HMP for people."""

from ratite.monitor.hub import Monitor, MonitorHub
from ratite.monitor.vm import KeyInfo, OptionInfo

__all__ = ["Monitor", "KeyInfo", "MonitorHub", "OptionInfo"]
