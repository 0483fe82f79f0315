"""Picture files as arrays and back; read io.py first, then decode.py and encode.py: one file a format.

Knows nothing of videos; no torch.
"""
