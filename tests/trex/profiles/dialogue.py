"""What the stateful profiles have in common: clients and servers that talk HTTP through the VIP."""

from typing import Optional

from trex.astf.api import (
    ASTFAssociationRule,
    ASTFIPGen,
    ASTFIPGenDist,
    ASTFIPGenGlobal,
    ASTFProfile,
    ASTFProgram,
    ASTFTCPClientTemplate,
    ASTFTCPServerTemplate,
    ASTFTemplate,
)

import plan

REQUEST = b"GET /%s HTTP/1.1\r\nHost: fulcrum.test\r\nAccept: */*\r\n\r\n" % (b"x" * 32)


def header(length: int) -> bytes:
    """The head of an answer with so many bytes of body."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % length


def profile(client: ASTFProgram, server: ASTFProgram, cps: float, limit: Optional[int] = None) -> ASTFProfile:
    """Clients ask the VIP; any address on port 1 that the director chooses is a server, because the rule names the
    port alone. `cps` is what a multiplier of 1 starts in a second, `limit` how many connections there are at once."""
    clients = ASTFIPGenDist(ip_range=list(plan.TALKING_CLIENTS), distribution="seq")
    vip = ASTFIPGenDist(ip_range=[plan.VIP, plan.VIP], distribution="seq")
    addresses = ASTFIPGen(glob=ASTFIPGenGlobal(ip_offset="1.0.0.0"), dist_client=clients, dist_server=vip)
    asks = ASTFTCPClientTemplate(
        program=client, ip_gen=addresses, port=plan.HTTP_PORT, cps=cps, limit=limit, cont=True if limit else None
    )
    answers = ASTFTCPServerTemplate(program=server, assoc=ASTFAssociationRule(port=plan.HTTP_PORT))
    template = ASTFTemplate(client_template=asks, server_template=answers)
    return ASTFProfile(default_ip_gen=addresses, templates=template)
