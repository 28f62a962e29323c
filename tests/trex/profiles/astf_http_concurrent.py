"""Concurrent connections: as many as --flows says, each asking again after a pause, replaced when it ends. A
multiplier of 1 opens 1000 a second until they are all there.

    start -f profiles/astf_http_concurrent.py -m 20 -d 300 -t --flows 1000000"""

from argparse import ArgumentParser

from trex.astf.api import ASTFProfile, ASTFProgram

import dialogue


class Concurrent:
    def get_profile(self, tunables: list, **kwargs) -> ASTFProfile:
        parser = ArgumentParser(description=__doc__)
        parser.add_argument("--flows", type=int, default=100000, help="connections at once")
        parser.add_argument("--requests", type=int, default=10, help="of a connection before it closes")
        parser.add_argument("--pause", type=float, default=5.0, help="seconds between them")
        options = parser.parse_args(tunables)
        answer = dialogue.header(64) + b"x" * 64
        client, server = ASTFProgram(), ASTFProgram()
        client.set_var("left", options.requests)
        client.set_label("ask")
        client.send(dialogue.REQUEST)
        client.recv(len(answer), True)
        client.delay(int(options.pause * 1000000))
        client.jmp_nz("left", "ask")
        server.set_var("left", options.requests)
        server.set_label("answer")
        server.recv(len(dialogue.REQUEST), True)
        server.send(answer)
        server.jmp_nz("left", "answer")
        return dialogue.profile(client, server, cps=1000, limit=options.flows)


def register():
    return Concurrent()
