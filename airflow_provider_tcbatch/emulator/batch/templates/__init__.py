"""Task templates."""
