"""Run by QGIS's own Python: open a GeoPackage, say how each layer is drawn, draw them to a PNG.

Usage: python3 draw_in_qgis.py FILE.gpkg OUT.png LAYER…
"""

import json
import sys

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsVectorLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

path, picture, *names = sys.argv[1:]
QgsApplication.setPrefixPath("/usr", True)
application = QgsApplication([], False)
application.initQgis()
layers = {name: QgsVectorLayer(f"{path}|layername={name}", name, "ogr") for name in names}
told = {
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
settings.setLayers(list(layers.values()))
settings.setDestinationCrs(layers[names[0]].crs())
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
del job, settings, layers
application.exitQgis()
