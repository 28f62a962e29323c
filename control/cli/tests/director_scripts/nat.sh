#!/bin/bash
# Director of a farm behind NAT: web, encrypted web and names. Saves its table over restarts.

IPVSADM=$(command -v ipvsadm)
RULES=${RULES:-/etc/sysconfig/ipvsadm}
VIP=172.16.100.9
NETWORK=192.168.20.0/24

start() {
    [ -x "$IPVSADM" ] || exit 5
    modprobe -a ip_vs ip_vs_rr ip_vs_wrr 2>/dev/null
    sysctl -q -w net.ipv4.ip_forward=1
    iptables -t nat -F
    iptables -t nat -A POSTROUTING -s $NETWORK -j MASQUERADE
    $IPVSADM --set 900 120 300
    if [ -s "$RULES" ]; then
        ipvsadm-restore < "$RULES" || return 1
        echo "restored $(grep -c '^-A' "$RULES") services"
        return 0
    fi
    $IPVSADM --clear
    $IPVSADM --add-service --tcp-service $VIP:80 --scheduler wrr
    $IPVSADM --add-service --tcp-service $VIP:443 --scheduler wlc --persistent 300 --netmask 255.255.255.0
    $IPVSADM -A -u $VIP:53 -s rr
    weight=3
    for rip in 192.168.20.7 192.168.20.8 192.168.20.9; do
        $IPVSADM --add-server --tcp-service $VIP:80 --real-server $rip:8080 --masquerading --weight $weight
        $IPVSADM -a -t $VIP:443 -r $rip:8443 -m -w $weight -x 1000 -y 800
        $IPVSADM -a -u $VIP:53 -r $rip -m
        weight=$((weight - 1))
    done
}

stop() {
    $IPVSADM -S -n > "$RULES"
    $IPVSADM --clear
    iptables -t nat -F
}

status() {
    if $IPVSADM -Ln | grep -q '^\(TCP\|UDP\)'; then
        $IPVSADM -L --timeout
        $IPVSADM -Ln --thresholds
        $IPVSADM -Ln --stats -t $VIP:80
        $IPVSADM -Lnc | tail -n +3
    else
        echo "no services"
        return 3
    fi
}

# Takes a server out of the web service, or puts it back.
drain() { $IPVSADM -e -t $VIP:80 -r "$1":8080 -m -w 0; }
undrain() { $IPVSADM -e -t $VIP:80 -r "$1":8080 -m -w "$2"; }

case "$1" in
start | stop | status) "$1" ;;
restart) stop && start ;;
drain) drain "$2" ;;
undrain) undrain "$2" "$3" ;;
*) echo "Usage: ${0##*/} {start|stop|restart|status|drain|undrain}" >&2; exit 2 ;;
esac
