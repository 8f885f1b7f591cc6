"""The commands of QMP, by topic. A module here is found by itself."""
