"""The self-contained HTML report of a run, from the files of its output folder. No torch."""

from changedet.report.picture import Picture
from changedet.report.report import Inputs, draw_pictures, drawn_pictures, write_report

__all__ = ["Inputs", "Picture", "draw_pictures", "drawn_pictures", "write_report"]
