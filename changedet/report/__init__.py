"""The self-contained HTML report of a run, from the files of its output folder. No torch."""

from changedet.report.report import Inputs, write_report

__all__ = ["Inputs", "write_report"]
