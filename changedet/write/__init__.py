"""Files: rasters, GeoPackage, run.json; each appears whole or not at all. No torch."""
