//! The texts of `-h` and `-v`.

/// The answer to `-v`, without the line end. Scripts look at the first two words.
pub const VERSION: &str = concat!(
    "ipvsadm v1.31 2019/12/24 (compiled with Fulcrum ",
    env!("CARGO_PKG_VERSION"),
    " and IPVS v1.2.1)"
);

/// The answer to `-h` below [`VERSION`].
pub const HELP: &str = "\
Usage:
  ipvsadm -A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] [--pe persistence_engine] [-b sched-flags]
               [-o] [--local-pool name] [--vip-interface name]
  ipvsadm -D virtual-service
  ipvsadm -C
  ipvsadm -R
  ipvsadm -S [-n]
  ipvsadm -a|e virtual-service -r server-address [options]
  ipvsadm -d virtual-service -r server-address
  ipvsadm -L|l [virtual-service] [options]
  ipvsadm -Z [virtual-service]
  ipvsadm -P|Q virtual-service -z local-address
  ipvsadm -G [virtual-service] [-n]
  ipvsadm --set tcp tcpfin udp
  ipvsadm -h

Commands (each has a short and a long form):
  --add-service     -A        make a virtual service
  --edit-service    -E        change a virtual service, its servers stay
  --delete-service  -D        remove a virtual service
  --clear           -C        remove all virtual services
  --restore         -R        apply the commands on stdin, all of them or none
  --save            -S        print the table as commands for -R
  --add-server      -a        add a real server to a virtual service
  --edit-server     -e        change a real server
  --delete-server   -d        remove a real server
  --list            -L|-l     show the table
  --zero            -Z        set counters to zero, of one service or of all
  --add-laddr       -P        give a virtual service a local address (fullnat)
  --del-laddr       -Q        take a local address away
  --get-laddr       -G        show local addresses
  --set tcp tcpfin udp        set the session time-outs in seconds, 0 keeps
  --version         -v        show the version
  --help            -h        show this text

virtual-service:
  --tcp-service|-t  service-address   host[:port]
  --udp-service|-u  service-address   host[:port]
  --sctp-service    service-address   host[:port]
  --fwmark-service|-f fwmark          packets with this mark, 1 or more

Options:
  --ipv6         -6                   the mark is of IPv6 packets
  --scheduler    -s scheduler         one of rr|wrr|lc|wlc|lblc|lblcr|dh|sh|sed|nq|fo|ovf|mh|twos,
                                      wlc when none is named
  --persistent   -p [timeout]         keep a client on its server, 360 seconds when no number is given
  --netmask      -M netmask           clients that agree under this mask count as one; IPv6: a prefix length
  --pe            engine              keep what the engine (sip) says instead of the client's address
  --ops          -o                   every datagram is scheduled by itself
  --sched-flags  -b flags             flags of the scheduler, joined by commas: sh-fallback, sh-port,
                                      mh-fallback, mh-port, flag-1, flag-2, flag-3
  --local-pool   name                 pool of local addresses for fullnat, '' for none
  --vip-interface name                interface on which the address answers ARP, '' for none
  --real-server  -r server-address    host[:port]
  --gatewaying   -g                   direct routing, used when none is named
  --ipip         -i                   tunnel
  --masquerading -m                   NAT
  --fullnat      -b                   NAT of both ends, with a local address
  --tun-type      type                one of ipip|gue|gre, ipip when none is named
  --tun-port      port                UDP port that a gue tunnel goes to
  --tun-nocsum                        tunnel without a checksum (gue, gre)
  --tun-csum                          tunnel with a checksum (gue, gre)
  --tun-remcsum                       tunnel with remote checksum offload (gue)
  --weight       -w weight            share of the real server, 0 for no new connections
  --u-threshold  -x uthreshold        upper threshold of connections
  --l-threshold  -y lthreshold        lower threshold of connections
  --laddr        -z local-address     address for -P and -Q
  --connection   -c                   show the current sessions
  --timeout                           show the time-outs (tcp tcpfin udp)
  --daemon                            show the synchronization daemons
  --stats                             show what was counted
  --rate                              show rates per second
  --exact        -X                   show all digits of large numbers
  --thresholds                        show thresholds
  --persistent-conn                   show numbers of persistent clients
  --tun-info                          show tunnel types
  --nosort                            newest first instead of by address
  --sort                              accepted, does nothing
  --numeric      -n                   show numbers instead of names
";
