"""The HTTP edge: REST, pages, health and metrics; every error leaves as a problem document."""
