"""Datagrams of one size from many clients to one VIP: what established sessions cost.

    start -f profiles/stl_udp.py -p 0 -m 1mpps -t --size 64 --flows 1000000"""

import frames


class Udp:
    def get_streams(self, tunables: list, **kwargs) -> list:
        options = frames.tunables(__doc__, tunables, flows=65536)
        return [frames.udp("udp", options.size, options.flows, pps=1000)] + frames.probes(options.probes)


def register():
    return Udp()
