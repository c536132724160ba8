package migrate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// The frame that most variants are put into: tcp/22 opens after 40011 and 40022.
const (
	before = "iptables -P INPUT DROP\niptables -A INPUT -i lo -j ACCEPT\niptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n"
	knocks = "iptables -A INPUT -p tcp --dport 22 -m recent --rcheck --seconds 20 --name IN -j ACCEPT\n" +
		"iptables -A INPUT -p tcp --dport 40022 -m recent --rcheck --seconds 8 --name FIRST -m recent --remove --name FIRST -m recent --set --name IN -j DROP\n" +
		"iptables -A INPUT -p tcp --dport 40011 -m recent --set --name FIRST -j DROP\n"
)

// script is a whole one, with lines of its own from line 4 on.
func script(lines string) string { return before + lines + "\n" + knocks }

// with is a whole script that calls iptables by a variable, with lines before all.
func with(lines, name string) string {
	return lines + "\n" + strings.ReplaceAll(before+knocks, "iptables ", name+" ")
}

// section is a knockd.conf with one section.
func knockd(lines string) string {
	return "[ssh]\n\tsequence = 40011,40022,40033\n\tseq_timeout = 6\n\t" + strings.ReplaceAll(lines, "\n", "\n\t") + "\n"
}

func runs(command string) string { return knockd("command = " + command) }

const (
	depends = "it depends on a condition, and is taken as done"
	door22  = "service: tcp/22\n"
	open    = "iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"
	shut    = "iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"
	noDoors = "these rules have no knocks that open anything"
)

// closes is a section that closes what open opens.
func closes(sequence, lines string) string {
	return "[shut]\nsequence = " + sequence + "\n" + lines + "command = " + shut + "\n"
}

// TestVariants imports what people write in other shapes. The text that comes out
// (the policy; the remarks, each with its line; or the error and its remedy) must
// have some words, and not have others, which begin with a "!".
func TestVariants(t *testing.T) {
	for kind, variants := range map[string][]struct {
		text string
		want []string
	}{
		"a condition": {
			{script("if [ \"$A\" = yes ]; then iptables -A INPUT -p tcp --dport 5432 -j ACCEPT; fi"), []string{"service: tcp/5432", "4: " + depends, door22}},
			{script("if false; then\n:\nelse\n  iptables -A INPUT -p tcp --dport 5433 -j ACCEPT\nfi"), []string{"service: tcp/5433", "7: " + depends}},
			{script("[ -f /etc/x ] && iptables -A INPUT -p udp --dport 53 -j ACCEPT"), []string{"service: udp/53", "4: " + depends}},
			{script("[[ $A == 1 ]] || iptables -A INPUT -p tcp --dport 81 -j ACCEPT"), []string{"service: tcp/81", "4: " + depends}},
			{script("while read p; do iptables -A INPUT -p tcp --dport 82 -j ACCEPT; done </etc/ports"), []string{"service: tcp/82", "4: " + depends}},
			{script("case $A in\nx) iptables -A INPUT -p tcp --dport 83 -j ACCEPT;;\ny) iptables -A INPUT -p tcp --dport 84 -j ACCEPT;;\nesac"),
				[]string{"service: tcp/83", "service: tcp/84", "5: " + depends, "6: " + depends}},
			{script("if a; then if b; then iptables -P INPUT ACCEPT; fi; fi"), []string{"4: " + depends}},
			{script("test -x /bin/x && { iptables -A INPUT -p tcp --dport 85 -j ACCEPT; }"), []string{"service: tcp/85", "4: " + depends}},
			{script("iptables -F OUTPUT && iptables -A INPUT -p tcp --dport 86 -j ACCEPT"), []string{"service: tcp/86", "!" + depends}},
			{script("if [ -z \"$1\" ]; then iptables -P INPUT ACCEPT; iptables -F; exit 0; fi"), []string{door22, "posture: closed", "4: it is in a branch that ends the script, and is not read"}},
		},
		"a function, a loop": {
			{script("f() { iptables -A INPUT -p tcp --dport 90 -j ACCEPT; }"), []string{"!tcp/90", "4: it is in the function f, which nothing calls, and is not read"}},
			{script("f() {\n iptables -A INPUT -p tcp --dport $1 -j ACCEPT\n}\nf 91\nf 92"), []string{"service: tcp/91", "service: tcp/92", "!not set"}},
			{script("function f { iptables -A INPUT -p tcp --dport 93 -j ACCEPT; }\n[ -e /x ] && f"), []string{"service: tcp/93", "4: " + depends}},
			{script("for p in 94 95; do iptables -A INPUT -p tcp --dport $p -j ACCEPT; done"), []string{"service: tcp/94", "service: tcp/95", "!" + depends}},
			{script("PORTS=\"96 97\"\nfor p in $PORTS; do\niptables -A INPUT -p tcp --dport $p -j ACCEPT\ndone"), []string{"service: tcp/96", "service: tcp/97"}},
			{script("for p in {8000..8002}; do iptables -A INPUT -p tcp --dport $p -j ACCEPT; done"), []string{"service: tcp/8000", "service: tcp/8002"}},
			{script("for p in {1..999999999}; do iptables -A INPUT -p tcp --dport $p -j ACCEPT; done\nf() { f; f; f; f; }\nf"), []string{"4: $p is not set to plain text"}},
			{script("X=aaaaaaaaaaaaaaaa\nfor i in {1..200}; do X=$X$X$X; done\niptables -A INPUT -p tcp --dport $X -j ACCEPT"), []string{"6: $X is not set to plain text"}},
			{script("for p in $(cat /etc/ports); do iptables -A INPUT -p tcp --dport $p -j ACCEPT; done"), []string{"4: $p is not set to plain text in the file"}},
			{"start() {\n" + before + knocks + "}\nstop() {\niptables -F\niptables -P INPUT ACCEPT\n}\ncase \"$1\" in\nstart) start;;\nstop) stop;;\nrestart) stop; start;;\nesac\n",
				[]string{"posture: closed", door22, "10: it is in a branch beside \"start\", and is not read (lines 10-11)"}},
			{script("exit 0\niptables -A INPUT -p tcp --dport 98 -j ACCEPT"), []string{noDoors, "it is in what comes after an exit, and is not read"}},
		},
		"a knockd Interface": {
			{"[options]\n Interface = wan0\n" + runs(open), []string{"!interfaces:", "2: knockd listens on wan0 only", door22}},
			{"[options]\ninterface=ppp0\nUseSyslog\n" + runs(open), []string{"!interfaces:", "2: knockd listens on ppp0 only"}},
			{runs(open) + "[options]\n\tINTERFACE = eth1 \n", []string{"!interfaces:", "6: knockd listens on eth1 only"}},
			{"[options]\n\tinterface = wlan0:1\n" + runs(open), []string{"!interfaces:", "2: knockd listens on wlan0:1 only"}},
			{"[options]\n interface = eth0\n" + runs("iptables -A INPUT -i eth0 -s %IP% -p tcp --dport 22 -j ACCEPT"), []string{"!interfaces:", "2: knockd", "the rule is for the interface eth0 alone"}},
		},
		"a knockd target": {
			{knockd("target = 192.0.2.40\ncommand = " + open), []string{"!address:", "4: knockd takes knocks at 192.0.2.40 only"}},
			{knockd("command = " + open + "\ntarget = 2001:db8::40"), []string{"!address:", "5: knockd takes knocks at 2001:db8::40 only"}},
			{knockd("TARGET = www\ncommand = " + open), []string{"!address:", "4: knockd takes knocks at www only"}},
			{knockd("target = 192.0.2.40\ncommand = iptables -A INPUT -s %IP% -d 192.0.2.40 -p tcp --dport 22 -j ACCEPT"), []string{"address: 192.0.2.40", "the rule is for the address 192.0.2.40 alone"}},
			{knockd("target = 192.0.2.40\ncommand = iptables -A INPUT -s %IP% -d 192.0.2.41 -p tcp --dport 22 -j ACCEPT"), []string{"!doors", "4: section [ssh] is left out: it watches one address and opens another"}},
		},
		"numbers of knockd": {
			{knockd("start_command = " + open + "\ncmd_timeout = 300s\nstop_command = " + shut), []string{"open_for: 5m", "5: knockd reads the number alone: 5m"}},
			{knockd("seq_timeout = 12 # seconds\ncommand = " + open), []string{"step_timeout: 12s", "4: knockd reads the number alone: 12s"}},
			{strings.Replace(runs(open), "40033", "40033 # three", 1), []string{"sequence: [40011, 40022, 40033]"}},
			{strings.Replace(runs(open), "40022", "40022:udp", 1), []string{"sequence: [40011, udp/40022, 40033]"}},
			{strings.Replace(runs(open), "= 6", "= 0006sec", 1), []string{"step_timeout: 6s"}},
			{knockd("seq_timeout = 7200\ncommand = " + open), []string{"step_timeout: 1h", "4: 7200 is longer than a policy's longest time"}},
			{knockd("start_command = " + open + "\ncmd_timeout = 604800\nstop_command = " + shut), []string{"open_for: 24h", "5: 604800 is longer"}},
			{knockd("start_command = " + open + "\ncmd_timeout = 99999999999\nstop_command = " + shut), []string{"open_for: 24h", "5: 99999999999 is longer"}},
			{knockd("start_command = " + open + "\ncmd_timeout = soon\nstop_command = " + shut), []string{"5: a time in seconds is expected: the policy has knockd's default, 10s"}},
		},
		"a section that closes": {
			{knockd("command = "+open) + closes("9,8:udp,7", ""), []string{"close: [9, udp/8, 7]", "step_timeout: 6s", "!left out", "!one step_timeout"}},
			{knockd("command = "+open) + closes("9,8,7", "seq_timeout = 11\n"), []string{"close: [9, 8, 7]", "7: a door has one step_timeout, to open and to close it: 6s"}},
			{closes("9,8,7", "") + knockd("command = "+open), []string{"close: [9, 8, 7]", "!left out"}},
			{knockd("command = "+open) + closes("9,8,7", "") + closes("6,5,4", ""), []string{"close: [9, 8, 7]", "!close: [6", "section [shut] is left out: it closes what [ssh] opens, and cannot: a door has one such sequence"}},
			{knockd("command = "+open) + closes("40011,40022", "") + closes("6,5,4", ""), []string{"close: [6, 5, 4]", "!one such sequence"}},
			{knockd("command = "+open) + closes("9,8,7", "tcpflags = fin\nstop_command = "+open+"\n"),
				[]string{"close: [9, 8, 7]", "7: a TCP knock of postern is", "8: what closes a door does nothing later"}},
			{knockd("command = "+open) + strings.TrimSpace(closes("9,8,7", "")) + " && conntrack -D -s %IP%\n", []string{"close: [9, 8, 7]", `7: "conntrack" opens no service`}},
			{knockd("command = "+open) + closes("40011,40022", ""), []string{door22, "!close:", "section [shut] is left out: it closes what [ssh] opens, and cannot: "}},
			{knockd("command = "+open) + closes("9,70000", ""), []string{door22, "!close:", `section [shut] is left out: "70000" in its sequence is no port`}},
			{strings.Replace(knockd("command = "+open), "40022", "0", 1) + closes("9,8,7", "") + "[web]\nsequence = 7,8\n" + strings.Replace("command = "+open, "22", "80", 1), []string{"service: tcp/80", "!close:", "section [shut] is left out: it closes what [ssh] opens"}},
		},
		"a time by sleep": {
			{runs(open + "; sleep 45; " + shut), []string{"open_for: 45s", "!until something closes it"}},
			{runs(open + " && sleep 2m && " + shut), []string{"open_for: 2m"}},
			{runs("sh -c '" + open + "; sleep 50; " + shut + "'"), []string{"open_for: 50s"}},
			{runs("/bin/bash -c \"" + open + "; /bin/sleep 1h; " + shut + "\""), []string{"open_for: 1h"}},
			{runs("ufw allow from %IP% to any port 22 proto tcp; sleep 33; ufw delete allow from %IP% to any port 22 proto tcp"), []string{"open_for: 33s", door22}},
			{runs(open + "; sleep 200000; " + shut), []string{"open_for: 24h", "longer than a policy can"}},
		},
		"a closing knock": {
			{script("iptables -A INPUT -p tcp --dport 40099 -m recent --name IN --remove -j DROP"), []string{"4: by these rules a packet to tcp/40099 loses the grant; by the policy it does not"}},
			{script("iptables -A INPUT -p udp --dport 40098 -m recent --name IN --remove -j REJECT"), []string{"4: by these rules a packet to udp/40098 loses the grant"}},
			{script("iptables -N TRAP\niptables -A TRAP -m recent --name IN --remove\niptables -A TRAP -j DROP\niptables -A INPUT -p tcp -m multiport --dports 40012,40023 -j TRAP"), []string{"by these rules a packet to tcp/40012 loses the grant", "by these rules a packet to tcp/40023 loses the grant"}},
			{script("iptables -A INPUT -p icmp --icmp-type echo-request -m recent --name IN --remove -j DROP"), []string{"by these rules a packet to icmp/echo loses the grant"}},
			{strings.Replace(script("iptables -A INPUT -p tcp --dport 40097 -m recent --name FIRST --remove -j DROP"), "-m recent --remove --name FIRST ", "", 1),
				[]string{"overlook wrong ports", door22}},
			{strings.ReplaceAll(script("iptables -A INPUT -p tcp --dport 40096 -m recent --name IN --remove -j DROP"), "20 --name", "1800 --name"), []string{"open_for: 30m", "4: by these rules a packet to tcp/40096 loses the grant"}},
		},
		"rules for one interface or address": {
			{strings.ReplaceAll(before+knocks, "INPUT -p", "INPUT -i eth0 -p"), []string{"!interfaces:", "the rules take knocks on [eth0] only, and shut other interfaces as well"}},
			{"iptables -P INPUT ACCEPT\n" + strings.ReplaceAll(knocks, "INPUT -p", "INPUT -i eth0 -p") + "iptables -A INPUT -p tcp --dport 22 -j DROP\n",
				[]string{"posture: guard", "!interfaces:", "the rules take knocks on [eth0] only"}},
			{"iptables -P INPUT ACCEPT\n" + strings.ReplaceAll(knocks, "INPUT -p", "INPUT -d 192.0.2.7 -p") + "iptables -A INPUT -p tcp --dport 22 -j DROP\n",
				[]string{"posture: guard", "!address:", "the rules take knocks at 192.0.2.7 only, and refuse the service at other addresses as well"}},
			{strings.ReplaceAll(before+knocks, "INPUT -p", "INPUT -d 192.0.2.7 -p"), []string{"posture: closed", "address: 192.0.2.7"}},
			{strings.ReplaceAll(before+knocks, "INPUT -p", "INPUT -s 10.0.0.0/8 -p"), []string{"from: [10.0.0.0/8]"}},
			{strings.ReplaceAll(before+knocks, "INPUT -p", "INPUT -i wan+ -p"), []string{"!interfaces:", "every interface whose name fits wan+"}},
		},
		"a variable that names iptables": {
			{with("IPT=$(which iptables)", "$IPT"), []string{door22}},
			{with("IPT=\"$(command -v iptables)\"", "${IPT}"), []string{door22}},
			{with("IPT=`type -p iptables`", "\"$IPT\""), []string{door22}},
			{with("IPT=${IPT:-/sbin/iptables}", "$IPT"), []string{door22}},
			{with(": ${IPT:=iptables}", "$IPT"), []string{door22}},
			{with("export IPT=/usr/sbin/iptables-nft", "$IPT"), []string{door22}},
			{with("BIN=/sbin\nIPT=$BIN/iptables", "$IPT -w"), []string{door22}},
			{with("IPT=$(which iptables || echo /sbin/iptables)", "$IPT"), []string{door22}},
			{with("", "$FW"), []string{"$FW is not set in the file", "write FW=iptables at its top and import it again"}},
			{with("# rules", "${FIREWALL}"), []string{"$FIREWALL is not set in the file", "write FIREWALL=iptables at its top"}},
			{with("FW=$(find / -name iptables)", "$FW"), []string{"$FW is not set in the file"}},
		},
		"another encoding": {
			{"# T\xfcr\n" + runs(open), []string{door22}},
			{"\xef\xbb\xbf" + runs(open), []string{door22}},
			{strings.ReplaceAll(runs(open), "\n", "\r\n"), []string{door22}},
			{"#!/bin/sh\n# \xe9\xe8\n" + script("echo \"fen\xeatre\""), []string{door22}},
			{strings.Replace(runs(open), "[ssh]", "[t\xfcr]", 1), []string{"t-r:", "tcp/22"}},
			{"[ssh]\x00", []string{"the file is not text"}},
		},
		"what packets through the host get": {
			{runs("iptables -I DOCKER-USER -s %IP% -p tcp --dport 80 -j ACCEPT"), []string{"!doors:", "DOCKER-USER is about published ports"}},
			{runs("iptables -I DOCKER -s %IP% -p tcp --dport 80 -j RETURN"), []string{"!doors:", "DOCKER is about published ports"}},
			{runs("iptables -I FORWARD -s %IP% -p tcp --dport 80 -j ACCEPT"), []string{"!doors:", "it opens the way to another host"}},
			{runs("iptables -A ufw-user-forward -s %IP% -p tcp --dport 80 -j ACCEPT"), []string{"!doors:", "it opens the way to another host"}},
			{runs("nft add rule ip filter forward ip saddr %IP% tcp dport 80 accept"), []string{"!doors:", "it opens the way to another host"}},
			{script("iptables -A FORWARD -i eth1 -j ACCEPT\niptables -A FORWARD -o eth1 -j ACCEPT\niptables -P FORWARD DROP"), []string{"4: packets through this host are left alone", "(lines 4-6)"}},
			{script("iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE\niptables -t nat -A POSTROUTING -o eth1 -j MASQUERADE"), []string{"4: a policy is about what comes in", "(lines 4-5)"}},
			{script("iptables -N DOCKER\niptables -A FORWARD -j DOCKER\niptables -A DOCKER -p tcp --dport 80 -j ACCEPT"), []string{"6: no packet to this host gets into the chain DOCKER"}},
		},
		"ufw and firewall-cmd": {
			{runs("ufw allow 22"), []string{door22, "the rule lets everyone in", "without proto"}},
			{runs("ufw allow ssh"), []string{door22, "the rule lets everyone in"}},
			{runs("ufw allow OpenSSH"), []string{door22, "the rule lets everyone in"}},
			{runs("ufw allow in on eth0 to any port 22 proto tcp"), []string{door22, "the interface eth0 alone"}},
			{runs("ufw limit 22/tcp && ufw reload"), []string{door22, whyNoLimit}},
			{runs("ufw allow 60000:60010/udp"), []string{"udp/60000", "udp/60010"}},
			{runs("ufw deny 22/tcp"), []string{"!doors:", "cannot be told"}},
			{runs("firewall-cmd --add-port=22/tcp"), []string{door22, "the rule lets everyone in"}},
			{runs("firewall-cmd --zone=public --add-service=ssh --timeout=60"), []string{door22, "open_for: 1m", "the zone public alone"}},
			{runs("firewall-cmd --add-port 4000-4003/udp && firewall-cmd --reload"), []string{"udp/4000", "udp/4003"}},
			{runs("firewall-cmd --zone=public --timeout 5m --add-service https"), []string{"service: tcp/443", "open_for: 5m"}},
			{runs("firewall-cmd --add-masquerade"), []string{"!doors:", "cannot be told"}},
			{knockd("command = ufw allow 22/tcp") + "[shut]\nsequence = 9,8,7\ncommand = ufw delete allow 22/tcp\n", []string{door22, "close: [9, 8, 7]", "!left out"}},
			{knockd("command = firewall-cmd --add-service=ssh") + "[shut]\nsequence = 9,8,7\ncommand = firewall-cmd --remove-service=ssh\n", []string{door22, "close: [9, 8, 7]", "!left out"}},
		},
		"no iptables": {
			{script("iptables -A INPUT -p tcp --dport 80 -j ACCEPT >/dev/null 2>&1"), []string{"service: tcp/80", "!not an iptables command"}},
			{script("echo 1 > /proc/sys/net/ipv4/ip_forward\nsysctl -w a=1\necho done >&2\nservice iptables save"), []string{"4: it is not an iptables command, and is not read (lines 4-5 and 7)"}},
			{script(strings.Repeat("echo '#####'\n", 200) + "banner"), []string{"204: it is not an iptables command, and is not read\n"}},
			{script("iptables -L -n | grep 22 || true\nexport PATH=/sbin\nset -e"), []string{door22, "!not an iptables command"}},
			{script("iptables-restore </etc/rules"), []string{"4: the rules that it loads are in another file"}},
			{"iptables-restore <<EOF\n*filter\n:INPUT DROP [0:0]\n" + strings.ReplaceAll(knocks, "iptables ", "") + "COMMIT\nEOF\niptables -L\n", []string{door22, "posture: closed"}},
			{script("ufw allow 25/tcp"), []string{"4: what ufw does is not read"}},
			{script("cat <<EOF\niptables -A INPUT -p tcp --dport 26 -j ACCEPT\nEOF"), []string{"!tcp/26", "it is not an iptables command"}},
			{script("( iptables -A INPUT -p tcp --dport 27 -j ACCEPT ) & wait"), []string{"service: tcp/27"}},
			{script("time iptables -A INPUT -p tcp --dport 29 -j ACCEPT\ncommand iptables -A INPUT -p tcp --dport 30 -j ACCEPT"), []string{"service: tcp/29", "service: tcp/30"}},
			{script("out=$(iptables -A INPUT -p tcp --dport 31 -j ACCEPT 2>&1)\necho \"`iptables -A INPUT -p tcp --dport 32 -j ACCEPT`\""), []string{"service: tcp/31", "service: tcp/32"}},
			{script("for t in iptables ip6tables; do $t -A INPUT -p tcp --dport 33 -j ACCEPT; done"), []string{"tcp/33", "the rules for IPv6 have no knocks"}},
		},
		"open without a knock": {
			{strings.Replace(before+knocks, "-P INPUT DROP", "-N X", 1), []string{noDoors, "4: tcp/22 gets in without a knock: no line sets the policy of INPUT, which accepts what its rules leave"}},
			{strings.Replace(before+knocks, "-P INPUT DROP", "-P INPUT ACCEPT", 1), []string{noDoors, "4: tcp/22 gets in without a knock: the policy of INPUT (line 1) accepts"}},
			{script("iptables -A INPUT -p tcp --dport 22 -j ACCEPT"), []string{noDoors, "5: tcp/22 gets in without a knock: line 4 lets it in"}},
			{script("iptables -A INPUT -p tcp -m multiport --dports 21,22,23 -j ACCEPT"), []string{"tcp/22 gets in without a knock: line 4 lets it in"}},
			{before + knocks + "iptables -A INPUT -p tcp --dport 23 -m recent --rcheck --name IN -j ACCEPT\niptables -A INPUT -p tcp --dport 23 -j ACCEPT\n",
				[]string{door22, "7: tcp/23 gets in without a knock: line 8 lets it in"}},
			{"*filter\n:INPUT ACCEPT [0:0]\n" + strings.ReplaceAll(knocks, "iptables ", "") + "COMMIT\n", []string{noDoors, "3: tcp/22 gets in without a knock: the policy of INPUT (line 2) accepts"}},
		},
		"other kinds": {
			{"#!/usr/sbin/nft -f\ntable inet filter {\n\tset one { type ipv4_addr; }\n}\n", []string{"it looks like an nft rule set"}},
			{"flush ruleset\nadd table ip x\n", []string{"it looks like an nft rule set"}},
			{"table ip6 knock {\n}\n", []string{"an nft rule set", "write the policy by hand"}},
			{"#!/bin/sh\nnft add table inet x\nnft add chain inet x y\n", []string{"an nft rule set"}},
			{"define if = eth0\ntable inet a {\n chain b { type filter hook input priority 0; }\n}", []string{"an nft rule set"}},
			{"SOURCE: ANY;\nOPEN_PORTS: tcp/22;\nKEY: x;\n", []string{"fwknop's access.conf", "FW_ACCESS_TIMEOUT its open_for"}},
			{"SOURCE   ANY\nREQUIRE_SOURCE_ADDRESS  Y\nKEY_BASE64  abc=\n", []string{"fwknop's access.conf"}},
			{"TESTING = \"0\"\nTCP_IN = \"22,80\"\nPORTKNOCKING = \"22;TCP;20;100;200;300\"\n", []string{"csf.conf", "iptables-save | postern import -"}},
			{"/ip firewall filter\nadd action=add-src-to-address-list address-list=k1 chain=input dst-port=100 protocol=tcp\n", []string{"RouterOS"}},
			{"add chain=input action=accept dst-port=22 protocol=tcp\n", []string{"RouterOS"}},
			{"#ACTION SOURCE DEST\n?SECTION NEW\nACCEPT net $FW tcp 22\n", []string{"shorewall", "iptables-save | postern import -"}},
			{"SSH(ACCEPT) net $FW\nDROP net all\n", []string{"shorewall"}},
			{"*filter\n:ufw-before-input - [0:0]\n-A ufw-before-input -i lo -j ACCEPT\nCOMMIT\n", []string{"ufw's before.rules", "iptables-save | postern import -"}},
			{"Chain INPUT (policy DROP)\ntarget prot opt source destination\n", []string{"\"iptables -L\" prints"}},
			{"pass in on em0 proto tcp to port 22\n", []string{"a rule set of pf"}},
			{"version: 1\nposture: guard\n", []string{"a policy of postern"}},
		},
		"a script that is wrong": {
			{script("echo \"never closed"), []string{"the shell cannot read it: line ", "correct that line"}},
			{script("if true; then"), []string{"the shell cannot read it"}},
			{script("iptables -A INPUT -p tcp --dport 28 -j ACCEPT )"), []string{"the shell cannot read it: line 4"}},
			{script("iptables -A INPUT -p tcp --dport $UNSET -j ACCEPT"), []string{"4: $UNSET is not set to plain text in the file"}},
			{script("iptables -A INPUT -s $(hostname -I) -j ACCEPT"), []string{"is not set to plain text", "!from:"}},
		},
	} {
		if len(variants) < 5 {
			t.Errorf("%s: only %d variants", kind, len(variants))
		}
		for i, v := range variants {
			t.Run(fmt.Sprintf("%s/%d", kind, i+1), func(t *testing.T) {
				got := report(t, v.text)
				for _, words := range v.want {
					absent, is := strings.CutPrefix(words, "!")
					if is == strings.Contains(got, absent) {
						t.Errorf("%q:\n%s\n----\n%s", words, v.text, got)
					}
				}
			})
		}
	}
}

// report is all that a person reads of an import.
func report(t *testing.T, text string) string {
	t.Helper()
	result, err := Read("file", []byte(text))
	var b strings.Builder
	var all []Remark
	var empty *EmptyError
	var unknown *UnknownError
	switch {
	case err == nil:
		good(t, result.Policy)
		b.WriteString(result.Policy)
		all = result.Remarks
	case errors.As(err, &empty):
		fmt.Fprintln(&b, err)
		all = empty.Remarks
	case errors.As(err, &unknown):
		fmt.Fprintf(&b, "%v\n%s\n", err, unknown.Remedy)
	}
	placed(t, []byte(strings.ToValidUTF8(text, "\ufffd")), all)
	for _, r := range all {
		fmt.Fprintf(&b, "%d: %s\n", r.Line, r.Why)
	}
	return b.String()
}

// TestNesting: no text is nested so deep that a parser runs out of stack.
func TestNesting(t *testing.T) {
	for _, opens := range []string{"(", "$(", "{ ", "if ", "`", "${x:-", "$((", "[[ ( ", "f() ", "case x in x) ", "! ", "\"$(", "while ", "coproc ", "a && "} {
		for _, text := range []string{"iptables\n", "[a]\nsequence = 1\ncommand = ", "*filter\n-A "} {
			if result, err := Read("file", []byte(text+strings.Repeat(opens, 120_000/len(opens)))); err == nil {
				t.Errorf("%q makes this of %q:\n%s", text, opens, result.Policy)
			}
		}
	}
}
