#!/bin/sh
# The recipe as commands, in the fewest words.
iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
iptables -P INPUT DROP

iptables -N KNOCKING
iptables -N GATE1
iptables -N GATE2
iptables -N GATE3
iptables -N SUCCESS

iptables -A INPUT -i lo -s 127.0.0.1 -d 127.0.0.1 -j ACCEPT
iptables -A INPUT -p tcp --tcp-flags FIN,URG,PSH FIN,URG,PSH -j DROP
iptables -A INPUT -p tcp --tcp-flags ALL ALL -j DROP
iptables -A INPUT -p tcp --tcp-flags ALL NONE -j DROP
iptables -A INPUT -p tcp --tcp-flags SYN,RST SYN,RST -j DROP

iptables -A INPUT -j KNOCKING

iptables -A KNOCKING -m recent --rcheck --seconds 10 --name OK3 -j SUCCESS
iptables -A KNOCKING -m recent --rcheck --seconds 3 --name OK2 -j GATE3
iptables -A KNOCKING -m recent --rcheck --seconds 3 --name OK1 -j GATE2
iptables -A KNOCKING -j GATE1

iptables -A GATE1 -p tcp --dport 1234 -m recent --name OK1 --set -j DROP
iptables -A GATE1 -j DROP

iptables -A GATE2 -m recent --name OK1 --remove
iptables -A GATE2 -j LOG --log-level 6 --log-prefix "In knock 2: "
iptables -A GATE2 -p tcp --dport 2345 -m recent --name OK2 --set -j DROP
iptables -A GATE2 -j GATE1

iptables -A GATE3 -m recent --name OK2 --remove
iptables -A GATE3 -j LOG --log-level 6 --log-prefix "In knock 3: "
iptables -A GATE3 -p tcp --dport 3456 -m recent --name OK3 --set -j DROP
iptables -A GATE3 -j GATE1

iptables -A SUCCESS -m recent --name OK3 --remove
iptables -A SUCCESS -j LOG --log-level 6 --log-prefix "Knock accepted!: "
iptables -A SUCCESS -p tcp --dport 22 -j ACCEPT
iptables -A SUCCESS -j GATE1
