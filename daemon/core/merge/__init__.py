"""Orders to order lines, and the merge of a partition's published rows with new versions. Never reads or writes a file."""
