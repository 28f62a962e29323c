"""Connections a second: one short request and answer each, then both sides close. A multiplier of 1 is 100 a second.

    start -f profiles/astf_http_connections.py -m 1000 -d 60"""

from argparse import ArgumentParser

from trex.astf.api import ASTFProfile, ASTFProgram

import dialogue


class Connections:
    def get_profile(self, tunables: list, **kwargs) -> ASTFProfile:
        parser = ArgumentParser(description=__doc__)
        parser.add_argument("--body", type=int, default=64, help="bytes of the answer's body")
        options = parser.parse_args(tunables)
        answer = dialogue.header(options.body) + b"x" * options.body
        client, server = ASTFProgram(), ASTFProgram()
        client.send(dialogue.REQUEST)
        server.recv(len(dialogue.REQUEST))
        server.send(answer)
        client.recv(len(answer))
        return dialogue.profile(client, server, cps=100)


def register():
    return Connections()
