"""Empty: imported by name only."""
