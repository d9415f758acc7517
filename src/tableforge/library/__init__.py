"""What outlives a room: users, sessions, invites, assets; one repository a file."""
