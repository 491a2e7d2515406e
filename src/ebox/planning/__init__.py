"""Planning: what a machine that is not here would do with a training, before anyone pays for it.

Owns the facts about accelerators, topologies by name, the ahead-of-time compilation of the real train step in a
separate process, the reading of compiled programs, and the model of how step time grows with the workers.
"""

from ebox.planning.collective_costs import Exchange
from ebox.planning.compilation import ChipMemory, CompilationResult, StepShape, compile_train_step
from ebox.planning.examination import TopologyResult, examine_topology
from ebox.planning.hardware import CHIPS, Chip
from ebox.planning.isolation import compile_for_topology
from ebox.planning.programs import Collective, read_collectives
from ebox.planning.speedup import CurvePoint, SimulatedSteps, scaling_curve, simulate_step
from ebox.planning.step_time import ScalingModel, ScalingPoint, ScalingResult, StepCase, StepPrediction, fit_scaling
from ebox.planning.stragglers import StragglerResult, fit_stragglers
from ebox.planning.topologies import Topology, make_topology_mesh, parse_topology

__all__ = [
    "CHIPS",
    "Chip",
    "ChipMemory",
    "Collective",
    "CompilationResult",
    "CurvePoint",
    "Exchange",
    "ScalingModel",
    "ScalingPoint",
    "ScalingResult",
    "SimulatedSteps",
    "StepCase",
    "StepPrediction",
    "StepShape",
    "StragglerResult",
    "Topology",
    "TopologyResult",
    "compile_for_topology",
    "compile_train_step",
    "examine_topology",
    "fit_scaling",
    "fit_stragglers",
    "make_topology_mesh",
    "parse_topology",
    "read_collectives",
    "scaling_curve",
    "simulate_step",
]
