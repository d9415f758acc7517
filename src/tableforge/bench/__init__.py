"""Load tools: they know the wire and nothing of the server behind it, and every figure has the machine's floor beside it."""
