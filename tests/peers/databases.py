"""What a durable append takes of a database alone: rows of an event's size, one client or several, nothing around them."""

GROUNDS = ()
