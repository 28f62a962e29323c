#!/bin/bash
# Director that tunnels to servers elsewhere: lists in front, loops behind.

VIPS="172.16.100.9 172.16.100.10"
PORTS="http https"
SERVERS="192.168.20.7/5 192.168.30.9/2 10.7.0.3/1"

service_option() { echo "-t $1:$2"; }

case "$1" in
start)
    ipvsadm -C
    for vip in $VIPS; do
        ip addr add "$vip/32" dev tunl0
        for port in $PORTS; do
            ipvsadm -A $(service_option $vip $port) -s lblc -p
            for server in $SERVERS; do
                ipvsadm -a $(service_option $vip $port) -r ${server%/*} -i -w ${server#*/}
            done
        done
        arping -q -c 3 -U -I eth0 "$vip"
    done
    ;;
stop)
    for vip in $VIPS; do
        for port in $PORTS; do
            for server in $SERVERS; do
                ipvsadm -d $(service_option $vip $port) -r ${server%/*}
            done
            ipvsadm -D $(service_option $vip $port)
        done
        ip addr del "$vip/32" dev tunl0
    done
    ;;
status)
    ipvsadm -L -n | awk '/^TCP/ { service = $2 } /->/ && $2 != "RemoteAddress:Port" { print service, $2, $3, $4 }'
    ipvsadm -Sn | grep -c -- --tun-type
    ;;
esac
