"""SYNs from many clients to one VIP: what new connections cost. Nobody answers, so each holds a session for as long
as the service's `tcp-syn-recv` says; with more flows than sessions it is a flood.

    start -f profiles/stl_syn.py -p 0 -m 500kpps -t --flows 10000000"""

import frames


class Syn:
    def get_streams(self, tunables: list, **kwargs) -> list:
        options = frames.tunables(__doc__, tunables, flows=1000000)
        return [frames.syn("syn", options.size, options.flows, pps=1000)] + frames.probes(options.probes)


def register():
    return Syn()
