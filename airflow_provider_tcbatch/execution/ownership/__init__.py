"""What a task remembers of what it made, and ends."""
