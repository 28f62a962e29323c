"""Datagrams of three sizes, 64, 594 and 1518 bytes as 7 : 4 : 1, from many clients to one VIP (--size is ignored).

    start -f profiles/stl_imix.py -p 0 -m 50% -t --flows 65536"""

import frames

SHARES = ((64, 7), (594, 4), (1518, 1))


class Imix:
    def get_streams(self, tunables: list, **kwargs) -> list:
        options = frames.tunables(__doc__, tunables, flows=65536)
        sizes = [frames.udp("udp-%d" % size, size, options.flows, pps=100 * share) for size, share in SHARES]
        return sizes + frames.probes(options.probes)


def register():
    return Imix()
