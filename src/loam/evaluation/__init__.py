"""Measures of answers and of what they stand on; pure, from what others found and said."""
