"""Scores and speeds of networks, and how they are shown."""
