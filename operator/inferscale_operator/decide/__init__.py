"""The decision: from a snapshot of the world to a plan, pure."""

from inferscale_operator.decide.decision import advance, decide

__all__ = ["advance", "decide"]
