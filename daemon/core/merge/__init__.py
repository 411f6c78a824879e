"""Orders to order lines, and a partition's published rows with the versions that change it. Never reads or writes a file."""
