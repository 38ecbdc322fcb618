"""Whether a RayService would survive the loss of a part: rules that look at its objects and touch nothing."""

from drills.lint.living import Living
from drills.lint.rules import RULES, Finding, Rule, Severity, findings

__all__ = ["RULES", "Finding", "Living", "Rule", "Severity", "findings"]
