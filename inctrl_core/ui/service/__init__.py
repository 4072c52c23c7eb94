"""The page's steps for programs: the API and the MCP tools."""
