"""Models that reach somebody else's model: one file and one row in `loam.kinds` a provider."""
