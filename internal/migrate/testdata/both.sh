#!/bin/bash
# Variables, sudo, long options, both families in one file.
set -e
IPT=/usr/sbin/iptables
IP6T="ip6tables -w"
SSH_PORT=2200
KNOCK=(1 2 3)
echo "loading"
$IPT --flush; $IPT -X
sudo $IPT --policy INPUT DROP && ip6tables -P INPUT DROP
$IPT --append INPUT --match conntrack --ctstate RELATED,ESTABLISHED --jump ACCEPT
$IP6T -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
$IPT -A INPUT --protocol tcp --destination-port 443 --jump ACCEPT
$IP6T -A INPUT -p tcp --dport 443 -j ACCEPT
$IPT -A INPUT -p tcp --dport 80 -j ACCEPT
$IP6T -A INPUT -p ipv6-icmp --icmpv6-type neighbour-solicitation -j ACCEPT
$IP6T -A INPUT -s fe80::/10 -p udp --dport 546 -j ACCEPT
$IPT -N 'knocks' ; $IP6T -N knocks
$IPT --new-chain open; $IP6T -N open
$IPT -A INPUT --jump knocks
$IP6T -A INPUT -j knocks
$IPT --append knocks --match recent --rcheck --seconds=8 --name="on the way" \
     --jump open
$IP6T -A knocks -m recent --rcheck --seconds 8 --name way6 --mask ffff:ffff:ffff:ffff:: -j open
$IPT -A knocks -p tcp --dport 700 -m recent --set --name 'on the way' -j DROP
$IP6T -A knocks -p tcp --dport 700 -m recent --set --name way6 --mask ffff:ffff:ffff:ffff:: -j DROP
$IPT -A open -m recent --remove --name "on the way"
$IP6T -A open -m recent --remove --name way6 --mask ffff:ffff:ffff:ffff::
$IPT -A open -p tcp --dport ${SSH_PORT} -j ACCEPT
$IP6T -A open -p tcp --dport $SSH_PORT -j ACCEPT
$IPT -A open -p tcp --dport 9 -j ACCEPT
$IPT -D open -p tcp --dport 9 -j ACCEPT
$IPT -I INPUT 1 -i lo -j ACCEPT
$IPT -A INPUT -p tcp --dport $NOT_SET -j ACCEPT
sysctl -w net.ipv4.ip_forward=1
