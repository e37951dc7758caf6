"""Statistics of pixels that stream: no torch, no raster I/O. Samples are columns: (variables, N)."""
