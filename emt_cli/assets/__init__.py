"""Names, addresses and checksums of weights, and how they are fetched."""
