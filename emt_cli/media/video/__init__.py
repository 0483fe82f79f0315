"""Video files as frames with exact times and back; read probe.py first, then read.py, write.py and mux.py.

May import media.picture (animations are read by the same libraries); no torch.
"""
