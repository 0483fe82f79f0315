"""One file a command: read options, make one call, show the result."""
