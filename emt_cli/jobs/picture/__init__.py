"""One picture file in, one larger picture file out; job.py has the steps, the others what it asks.

Imports the engine and media; knows nothing of batches, videos and clusters.
"""
