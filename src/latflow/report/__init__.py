"""The report of a run: figures, tables, and one HTML page that holds them all."""

from latflow.report.page import write_report

__all__ = ["write_report"]
