"""Wire formats: OpenAI's and Anthropic's JSON to the core vocabulary and back, in all four directions. No I/O."""
