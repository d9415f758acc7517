"""TableForge: a self-hosted, rules-agnostic virtual tabletop."""
