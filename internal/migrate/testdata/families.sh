#!/bin/sh
# Two doors over IPv4, one of them over IPv6 as well.
iptables -P INPUT DROP
iptables -A INPUT -m state --state ESTABLISHED -j ACCEPT
iptables -A INPUT -p tcp --dport 22 -m recent --rcheck --seconds 10 --name A -j ACCEPT
iptables -A INPUT -p tcp --dport 1000 -m recent --set --name A -j DROP
iptables -A INPUT -p tcp --dport 80 -m recent --rcheck --seconds 10 --name B -j ACCEPT
iptables -A INPUT -p tcp --dport 2000 -m recent --set --name B -j DROP
ip6tables -P INPUT DROP
ip6tables -A INPUT -m state --state ESTABLISHED -j ACCEPT
ip6tables -A INPUT -p tcp --dport 22 -m recent --rcheck --seconds 10 --name A -j ACCEPT
ip6tables -A INPUT -p tcp --dport 1000 -m recent --set --name A -j DROP
