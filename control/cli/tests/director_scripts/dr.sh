#!/bin/sh
# Director of a web farm by direct routing.
# chkconfig: 2345 26 74

VIP=172.16.100.9
RIP1=192.168.20.7
RIP2=192.168.20.8
GATEWAY=172.16.100.254

case "$1" in
start)
    echo "Starting the director..."
    sysctl -w net.ipv4.ip_forward=0 >/dev/null
    ifconfig eth0:0 $VIP broadcast $VIP netmask 255.255.255.255 up
    route add -host $VIP dev eth0:0
    route add default gw $GATEWAY
    iptables -F
    iptables -Z
    ipvsadm -C
    ipvsadm -A -t $VIP:80 -s wlc -p 600
    ipvsadm -a -t $VIP:80 -r $RIP1 -g -w 1
    ipvsadm -a -t $VIP:80 -r $RIP2 -g -w 1
    touch "${LOCK:-/var/lock/subsys/director}"
    ipvsadm
    ;;
stop)
    echo "Stopping the director..."
    ipvsadm -C
    ifconfig eth0:0 down
    route del $VIP
    rm -f "${LOCK:-/var/lock/subsys/director}"
    ;;
status)
    isrothere=$(ipvsadm -ln | grep -c "$VIP:80 ")
    if [ "$isrothere" = 0 ] || [ ! -e "${LOCK:-/var/lock/subsys/director}" ]; then
        echo "director is stopped"
        exit 3
    fi
    echo "director is running with $(ipvsadm -L -n | grep -c 'Route') servers"
    ;;
*)
    echo "Usage: $0 {start|stop|status}"
    exit 1
    ;;
esac
