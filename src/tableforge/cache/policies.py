"""Everything that is cached, on one page.

Sessions and room snapshots are guarded by positions: nothing older than what this instance has heard of is served. The
others are dropped by tags when what they were made of changes.
"""
