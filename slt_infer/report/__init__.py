"""What a ticket weighs and what is in it, as plain dictionaries that print as JSON."""

from slt_infer.report.sizes import layer_report, paper_bytes, size_report, ticket_report

__all__ = ["layer_report", "paper_bytes", "size_report", "ticket_report"]
