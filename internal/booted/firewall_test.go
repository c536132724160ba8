//go:build linux

package booted

import "postern/internal/lab/debian"

// A firewall is another one that is on the machine beside Postern. It lets
// everybody in to the hidden port, so that nothing but Postern hides it.
type firewall struct {
	name    string
	variant debian.Variant
	enable  string // a line that enables it, now and at boot
	events  []string
}

var firewalls = []firewall{
	{name: "none", variant: debian.Plain, enable: "true", events: []string{
		"nft flush ruleset",
		"nft delete table inet postern || true",
		flushIptables,
		"systemctl daemon-reload",
		"systemctl restart postern",
		"systemctl reload postern",
		"systemctl stop postern; systemctl start postern",
		"systemctl kill --signal=KILL postern-watchdog",
		"systemctl restart postern-watchdog",
		"postern up --no-confirm",
	}},
	// Something listens before any service has started.
	{name: "none, and ssh.socket", variant: debian.Plain, enable: "systemctl disable --now ssh && systemctl enable --now ssh.socket"},
	// As in a container: nothing on the machine brings the network up.
	{name: "none, and no network service", variant: debian.Plain, enable: "systemctl mask networking"},
	{name: "nftables.service", variant: debian.Plain, enable: nftablesService, events: []string{
		"systemctl reload nftables",
		"systemctl restart nftables",
		"nft -f /etc/nftables.conf",
		"nft flush ruleset",
		"systemctl stop nftables",
		"systemctl start nftables",
	}},
	{name: "nftables.service of Debian 13", variant: debian.Trixie, enable: nftablesService, events: []string{
		"systemctl reload nftables",
		"systemctl restart nftables",
		"nft flush ruleset",
		"systemctl stop nftables",
		"systemctl start nftables",
	}},
	{name: "ufw", variant: debian.UFW, enable: "ufw allow 22/tcp && ufw --force enable && systemctl enable --now ufw", events: []string{
		"ufw reload",
		"systemctl restart ufw",
		"ufw disable",
		"ufw --force enable",
		"systemctl stop ufw",
		"systemctl start ufw",
		"ufw allow 80/tcp",
		// ufw's policy is to drop, and reload does not put back all that was flushed.
		flushIptables + "\nufw disable; ufw --force enable",
		"nft flush ruleset",
	}},
	// It loads its rules after it has started, and the command waits for it.
	{name: "firewalld", variant: debian.Firewalld, enable: "systemctl enable --now firewalld && firewall-cmd --state", events: []string{
		"firewall-cmd --reload",
		"firewall-cmd --complete-reload",
		"systemctl reload firewalld",
		"systemctl restart firewalld",
		"systemctl stop firewalld",
		"systemctl start firewalld",
		"firewall-cmd --add-port 80/tcp",
		"systemctl kill --signal=KILL firewalld",
		"nft flush ruleset",
	}},
	{name: "netfilter-persistent", variant: debian.IptablesPersistent, enable: `iptables -A INPUT -p tcp --dport 22 -j ACCEPT
	ip6tables -A INPUT -p tcp --dport 22 -j ACCEPT
	netfilter-persistent save && systemctl enable --now netfilter-persistent`, events: []string{
		"systemctl reload netfilter-persistent",
		"systemctl restart netfilter-persistent",
		"netfilter-persistent reload",
		"netfilter-persistent flush || true", // a chain may be used again before it is deleted
		"netfilter-persistent save",
		"systemctl stop netfilter-persistent",
		"systemctl start netfilter-persistent",
		flushIptables,
	}},
	// Without containers: no one may make control groups on the machine.
	{name: "Docker", variant: debian.Docker, enable: "docker info && iptables -S DOCKER-USER", events: []string{
		"systemctl restart docker",
		"systemctl kill --signal=KILL docker",
		"systemctl stop docker.socket docker",
		"systemctl start docker",
		"docker network create other && docker network rm other",
	}},
}

// flushIptables removes every rule and chain, as many scripts do.
const flushIptables = `for i in iptables ip6tables; do for t in raw mangle nat filter; do $i -t $t -F; $i -t $t -X; done; done`

const nftablesService = `cat >/etc/nftables.conf <<-END
	#!/usr/sbin/nft -f
	flush ruleset
	table inet filter {
		chain input { type filter hook input priority filter; policy accept; }
	}
	END
	systemctl enable --now nftables`
