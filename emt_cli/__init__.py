"""emt: upscale pictures and video with the Efficient Mixed Transformer."""

__version__ = "0.1.0"
