"""Secure aggregation: a server learns the sum of many devices' vectors, and nothing about a single one.

The protocol is SecAgg+ (Bell et al. 2020) with signed messages and a consistency round. Both parties are state machines
that know no socket or clock: messages in, messages out.
"""

from fairyring.secagg.device import Device
from fairyring.secagg.graph import (
    GraphParameters,
    adversaries_in,
    complete_graph,
    graph_parameters,
    session_graph,
)
from fairyring.secagg.identity import Anyone, Enrolled, Identity, Policy
from fairyring.secagg.log import FileLog, Log, MemoryLog, Record
from fairyring.secagg.server import Outgoing, Result, Server
from fairyring.secagg.terms import MINIMUM_COHORT, MINIMUM_HONEST, Session, Terms
from fairyring.secagg.traffic import Traffic, traffic
from fairyring.secagg.transcript import Transcript, verify

__all__ = [
    "MINIMUM_COHORT",
    "MINIMUM_HONEST",
    "Anyone",
    "Device",
    "Enrolled",
    "FileLog",
    "GraphParameters",
    "Identity",
    "Log",
    "MemoryLog",
    "Outgoing",
    "Policy",
    "Record",
    "Result",
    "Server",
    "Session",
    "Terms",
    "Traffic",
    "Transcript",
    "adversaries_in",
    "complete_graph",
    "graph_parameters",
    "session_graph",
    "traffic",
    "verify",
]
