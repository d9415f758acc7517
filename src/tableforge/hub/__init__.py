"""Who is connected, to what, and how frames reach them."""
