"""Work of any kind spread over a Ray cluster; read scheduler.py first.

Knows nothing of pictures, batches and videos.
"""
