"""The pages on a plan and on a decision, for a research lead: facts in, one HTML file out that needs nothing else.

Owns what these pages draw. Words stand in `languages`, rules in `ebox.planning`.
"""

from __future__ import annotations

from ebox.reporting.decision.pages import read_report, write_decision_page, write_plan_page

__all__ = ["read_report", "write_decision_page", "write_plan_page"]
