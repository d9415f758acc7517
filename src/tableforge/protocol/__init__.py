"""What travels: frames, codes, and the bytes of commands, events and rooms."""
