"""The rooms of this process: the command path, recovery, and what the edges may ask."""
