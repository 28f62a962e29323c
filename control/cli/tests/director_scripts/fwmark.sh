#!/bin/sh
# One farm for http and https of one address: marked packets go together, so that a client keeps its server.

VIP=172.16.100.9
MARK=10
RIPS="192.168.20.7 192.168.20.8"

start() {
    fulcrum mark clear
    fulcrum mark import - >/dev/null <<RULES || exit 1
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d $VIP/32 -p tcp -m tcp --dport 80 -j MARK --set-mark $MARK
-A PREROUTING -d $VIP/32 -p tcp -m tcp --dport 443 -j MARK --set-mark $MARK
-A PREROUTING -d $VIP/32 -p tcp -m multiport --dports 20,21,1024:65535 -j MARK --set-xmark 0xb/0xffffffff
COMMIT
RULES
    ipvsadm -C
    ipvsadm -A -f $MARK -s wlc -p 600
    ipvsadm -A -f 11 -s wlc -p 600
    for rip in $RIPS; do
        ipvsadm -a -f $MARK -r $rip -g -w 1
        ipvsadm -a -f 11 -r $rip:0 -g
    done
}

case "$1" in
start) start ;;
stop)
    ipvsadm -D -f $MARK
    ipvsadm -D -f 11
    fulcrum mark clear
    ;;
status)
    ipvsadm -L -n -f $MARK || exit 3
    ipvsadm -ln | sed -n 's/^FWM  *//p'
    ;;
reload)
    ipvsadm -S -n | sed 's/-w 1/-w 4/' > "${TMPDIR:-/tmp}/rules"
    { echo "# the same with other weights"; echo; cat "${TMPDIR:-/tmp}/rules"; } | ipvsadm-restore
    ;;
esac
