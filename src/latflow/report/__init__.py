"""The report of a run, or on an ensemble: figures, tables, and one HTML page that holds them all."""

from latflow.report.page import mark_in, mark_of, write_judgement, write_report

__all__ = ["mark_in", "mark_of", "write_judgement", "write_report"]
