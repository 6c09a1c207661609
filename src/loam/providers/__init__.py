"""Models that reach somebody else's model: one file and one row in `loam.assemble` a provider."""
