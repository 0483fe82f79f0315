"""One picture file in, one larger picture file out; read plan.py first, then job.py.

Imports the engine and media; knows nothing of batches, videos and clusters.
"""
