"""The network as machine code, written for the processor it runs on."""
