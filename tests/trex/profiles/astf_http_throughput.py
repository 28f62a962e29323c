"""Bytes a second: each connection fetches one large object. A multiplier of 1 is one object a second.

    start -f profiles/astf_http_throughput.py -m 1000 -d 60 -t --body 1000000"""

from argparse import ArgumentParser

from trex.astf.api import ASTFProfile, ASTFProgram

import dialogue


class Throughput:
    def get_profile(self, tunables: list, **kwargs) -> ASTFProfile:
        parser = ArgumentParser(description=__doc__)
        parser.add_argument("--body", type=int, default=1000000, help="bytes of the answer's body")
        options = parser.parse_args(tunables)
        head = dialogue.header(options.body)
        client, server = ASTFProgram(), ASTFProgram()
        client.send(dialogue.REQUEST)
        server.recv(len(dialogue.REQUEST))
        server.send(head, size=len(head) + options.body, fill="x")
        client.recv(len(head) + options.body)
        return dialogue.profile(client, server, cps=1)


def register():
    return Throughput()
