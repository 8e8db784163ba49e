"""A connection of Airflow: its settings, and what is kept for it."""
