"""The rules of the table, pure: given a room, a command and what the caller knows, the same events come out."""
