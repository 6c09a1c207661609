"""The small vocabulary that all rooms speak. Words only: no I/O, and no import from any other room."""
