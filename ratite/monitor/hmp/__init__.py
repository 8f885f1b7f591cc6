"""The monitor for people: a line editor and the commands in their text forms."""
