"""How networks are trained: settings, data, loop."""
