"""Watching jobs and environments for all waits of a process, by polling and by events; knows no Airflow."""
