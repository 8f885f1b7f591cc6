"""One module per guest instruction set: what tier 0 is generated from."""
