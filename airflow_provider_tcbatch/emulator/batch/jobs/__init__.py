"""Jobs: their actions, rules and states, and what runs their instances."""
