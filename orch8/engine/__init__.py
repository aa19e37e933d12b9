"""The core: a pure state machine over values. Standard library only, no I/O, no clock."""
