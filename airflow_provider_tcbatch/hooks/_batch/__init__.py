"""Parts of the hook of Batch."""
