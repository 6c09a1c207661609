"""Collections in Postgres with pgvector, for when one machine's file is not enough."""
