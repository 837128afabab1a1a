"""The decision: which accelerator profile, how many replicas and which batch every service gets."""

from inferscale_solver.allocation import Assignment, evaluate, evaluate_all, required_replicas
from inferscale_solver.candidates import Candidates, candidates
from inferscale_solver.power import power_draw
from inferscale_solver.problem import (
    Capacity,
    CurrentAllocation,
    Load,
    Performance,
    Power,
    Problem,
    Profile,
    Quota,
    SaturationPolicy,
    Service,
    Settings,
    Solver,
    TailRule,
    Targets,
    Tier,
    check,
    required_rate,
)
from inferscale_solver.result import (
    Allocation,
    CandidateOutcome,
    Decision,
    Outcome,
    Rejection,
    Result,
)
from inferscale_solver.solve import solve
from inferscale_solver.transition import Holding, holding, transition_value

__all__ = [
    "Allocation",
    "Assignment",
    "CandidateOutcome",
    "Candidates",
    "Capacity",
    "CurrentAllocation",
    "Decision",
    "Holding",
    "Load",
    "Outcome",
    "Performance",
    "Power",
    "Problem",
    "Profile",
    "Quota",
    "Rejection",
    "Result",
    "SaturationPolicy",
    "Service",
    "Settings",
    "Solver",
    "TailRule",
    "Targets",
    "Tier",
    "candidates",
    "check",
    "evaluate",
    "evaluate_all",
    "holding",
    "power_draw",
    "required_rate",
    "required_replicas",
    "solve",
    "transition_value",
]
