"""The prompt linter: deterministic rules over one prompt, and its requirements as checks. Imports no other room."""
