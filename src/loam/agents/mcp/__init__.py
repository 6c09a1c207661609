"""Tools of MCP servers: reached, listed, pinned as somebody trusted them, and called."""
