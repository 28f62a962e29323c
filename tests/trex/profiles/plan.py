"""Who is who in the set-up of docs/trex.md: what the files in ../director and ../server say, for profiles.

TRex's port 0 is every client, its port 1 every real server; the director stands between them."""

CLIENTS = ("16.0.0.1", "16.0.255.254")
"""First and last address of the clients that the stateless profiles send as."""

TALKING_CLIENTS = ("16.0.0.1", "16.0.15.254")
"""The same for the stateful profiles: TRex keeps a table of ports for each."""

PROBE = "16.1.0.1"
"""The client of latency streams, a flow of its own."""

VIP = "172.16.100.9"
UDP_PORT = 5001
HTTP_PORT = 80

SERVERS = ("10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.14")

TREX_MACS = ("02:00:00:00:01:fe", "02:00:00:00:02:fe")
"""Of TRex's ports 0 and 1."""

DIRECTOR_MACS = ("02:00:00:00:01:01", "02:00:00:00:02:01")
"""Of the director's ports wan and lan."""
