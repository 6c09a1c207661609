"""What each format comes out as, and what is refused."""
