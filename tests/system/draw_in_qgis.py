"""Run by QGIS's own Python: open a GeoPackage or a raster, say how each layer is drawn, draw them to a PNG.

Usage: python3 draw_in_qgis.py FILE.gpkg OUT.png LAYER…
       python3 draw_in_qgis.py FILE.tif OUT.png
"""

import json
import sys
from pathlib import Path

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

path, picture, *names = sys.argv[1:]
QgsApplication.setPrefixPath("/usr", True)
application = QgsApplication([], False)
application.initQgis()
layers = {name: QgsVectorLayer(f"{path}|layername={name}", name, "ogr") for name in names}
rasters = {} if names else {Path(path).stem: QgsRasterLayer(path)}


def entries(renderer):
    classes = getattr(renderer, "classes", list)()
    return [[item.value, item.label, item.color.getRgb()] for item in classes]


told = {
    name: {"valid": layer.isValid(), "renderer": layer.renderer().type(), "classes": entries(layer.renderer())}
    for name, layer in rasters.items()
}
told |= {
    name: {
        "valid": layer.isValid(),
        "rows": layer.featureCount(),
        "renderer": layer.renderer().type(),
        "attribute": getattr(layer.renderer(), "classAttribute", str)(),
        "classes": [
            [item.lowerValue(), item.upperValue(), item.symbol().color().getRgb()]
            for item in getattr(layer.renderer(), "ranges", list)()
        ],
        "fields": layer.fields().names(),
        "crs": layer.crs().authid(),
    }
    for name, layer in layers.items()
}
settings = QgsMapSettings()
shown = [*layers.values(), *rasters.values()]
settings.setLayers(shown)
settings.setDestinationCrs(shown[0].crs())
settings.setBackgroundColor(QColor(255, 255, 255))
settings.setOutputSize(QSize(900, 800))
settings.setExtent(settings.fullExtent())
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(picture)
sys.stdout.write(json.dumps(told) + "\n")
sys.stdout.flush()
# QGIS's own objects must go before the application, in an order that Python does not keep at its end.
del job, settings, layers, rasters, shown
application.exitQgis()
