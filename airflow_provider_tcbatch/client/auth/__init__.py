"""Keys, where they come from, and signing with them."""
