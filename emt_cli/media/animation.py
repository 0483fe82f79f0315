"""Animated GIF, WebP and APNG as videos: the same facts, frames and exact durations, through Pillow."""

from __future__ import annotations
