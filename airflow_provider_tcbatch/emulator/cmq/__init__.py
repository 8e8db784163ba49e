"""TDMQ-CMQ: queues, topics and subscriptions, with their control and data planes."""
