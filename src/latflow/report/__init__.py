"""The report of a run, or on an ensemble: figures, tables, and one HTML page that holds them all."""

from latflow.report.page import write_judgement, write_report

__all__ = ["write_judgement", "write_report"]
