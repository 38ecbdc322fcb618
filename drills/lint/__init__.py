"""Whether a RayService would survive the loss of a part: rules that look at its objects and touch nothing."""

from drills.lint.living import Living
from drills.lint.rules import RULES, Checked, Finding, Rule, Severity, check

__all__ = ["RULES", "Checked", "Finding", "Living", "Rule", "Severity", "check"]
