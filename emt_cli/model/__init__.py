"""The network of arXiv 2305.11403 and nothing else; imports only torch and einops."""
