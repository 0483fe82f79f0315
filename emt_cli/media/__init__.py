"""Pictures and video as files and arrays; no torch here."""
