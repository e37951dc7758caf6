import numpy as np
import shapely

from changedet.vectorize.polygons import as_multipolygons, joined, outlines


def test_the_outline_of_each_label_has_its_place():
    labels = np.array([[2, 2, 0], [0, 1, 1]], np.int32)

    first, second = outlines(labels, 2, row=10)

    assert first.equals(shapely.box(1, 11, 3, 12))
    assert second.equals(shapely.box(0, 10, 2, 11))
    assert len(outlines(np.zeros((2, 2), np.int32), 0)) == 0


def test_pieces_that_meet_become_one_without_vertices_on_straight_edges():
    pieces = as_multipolygons(
        np.array([shapely.box(0, 0, 2, 3), shapely.box(5, 5, 6, 6), shapely.box(0, 3, 2, 5), shapely.box(2, 5, 3, 6)])
    )

    hook, square = joined(pieces[[0, 2, 3, 1]], np.array([0, 0, 0, 1]))

    assert square == pieces[1]
    assert shapely.get_num_coordinates(hook) == 5 + 5
    assert hook.equals(shapely.MultiPolygon([shapely.box(0, 0, 2, 5), shapely.box(2, 5, 3, 6)]))


def test_as_multipolygons_keeps_empty_places():
    geometries = np.array([shapely.box(0, 0, 1, 1), shapely.Polygon()], dtype=object)

    assert [geometry.area for geometry in as_multipolygons(geometries)] == [1, 0]
    assert len(as_multipolygons(np.empty(0, object))) == 0
