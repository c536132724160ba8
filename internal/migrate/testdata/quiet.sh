# Knocks over IPv4; over IPv6 nothing gets in. Any of some interfaces will do.
iptables -P INPUT DROP
iptables -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
iptables -A INPUT -i eth+ -p tcp --dport 22 -m recent --rcheck --seconds 10 --name A -j ACCEPT
iptables -A INPUT -i eth+ -p tcp --dport 1000 -m recent --set --name A -j DROP
ip6tables -P INPUT DROP
ip6tables -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
