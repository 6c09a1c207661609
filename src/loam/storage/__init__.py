"""Where things are kept: a SQLite file with one writer, named migrations, a locked data folder."""
