"""What happens when an operator executes."""
