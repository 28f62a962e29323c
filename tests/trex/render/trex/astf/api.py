"""A stand-in for `trex.astf.api` where there is no TRex: it keeps what the profiles say, so that it can be judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional, Union


class ASTFProgram:
    """One end of a conversation: a list of (operation, argument)."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Any]] = []
        self.labels: dict[str, int] = {}

    def send(self, buf: bytes, size: int = 0, fill: Optional[str] = None) -> None:
        self.steps.append(("send", max(len(buf), size)))

    def recv(self, bytes: int, clear: bool = False) -> None:
        """So many more than have been waited for already."""
        self.steps.append(("recv", bytes))

    def delay(self, usec: int) -> None:
        self.steps.append(("delay", usec))

    def set_var(self, var_id: str, val: int) -> None:
        self.steps.append(("set", (var_id, val)))

    def set_label(self, label: str) -> None:
        self.labels[label] = len(self.steps)

    def jmp_nz(self, var_id: str, label: str) -> None:
        """Counts down, and goes back as long as something is left."""
        self.steps.append(("jump", (var_id, self.labels[label])))


@dataclass
class ASTFIPGenDist:
    ip_range: list[str]
    distribution: str = "seq"


@dataclass
class ASTFIPGenGlobal:
    ip_offset: str = "1.0.0.0"


@dataclass
class ASTFIPGen:
    dist_client: ASTFIPGenDist
    dist_server: ASTFIPGenDist
    glob: ASTFIPGenGlobal = field(default_factory=ASTFIPGenGlobal)


@dataclass
class ASTFAssociationRule:
    port: int = 80


@dataclass
class ASTFTCPClientTemplate:
    program: ASTFProgram
    ip_gen: ASTFIPGen
    port: int = 80
    cps: float = 1
    limit: Optional[int] = None
    cont: Optional[bool] = None


@dataclass
class ASTFTCPServerTemplate:
    program: ASTFProgram
    assoc: ASTFAssociationRule = field(default_factory=ASTFAssociationRule)


@dataclass
class ASTFTemplate:
    client_template: ASTFTCPClientTemplate
    server_template: ASTFTCPServerTemplate


@dataclass
class ASTFProfile:
    default_ip_gen: ASTFIPGen
    templates: Union[ASTFTemplate, list[ASTFTemplate]]
