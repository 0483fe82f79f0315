"""From weights and pixels to larger pixels: devices, tiles, runners."""
