"""Many tiles, one result: planned, resumable, on one machine or many."""
