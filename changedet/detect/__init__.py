"""The story: two scenes in, a change raster and change polygons out."""
