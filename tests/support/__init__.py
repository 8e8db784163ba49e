"""What the demo and the tests need to run real services on one machine."""
