//go:build linux

package main

import (
	"os/exec"
	"strings"
	"time"
)

// byFwknop is fwknop, where it is installed (Debian's fwknop-server and fwknop-client): its
// client sends one packet, and its daemon lets the sender in.
var byFwknop = &subject{"h", "fwknop, and ncat", &client{
	command:     []string{"bash", "-c", `fwknop -n bench && ncat -v "$0" 22`, serverAddress.String()},
	reportsOpen: loop.reportsOpen, port: 62201,
}, &rules{
	load: []string{"iptables-restore"}, text: closedText,
	daemon: []string{"fwknopd", "-f", "-c", "fwknopd.conf", "-a", "access.conf"},
	settle: time.Second,
}}

const closedText = `*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 9 -j ACCEPT
COMMIT
`

// fwknopFiles returns the daemon's files and the client's, with the same two keys.
func fwknopFiles(folder string) map[string]string {
	keys := "KEY_BASE64 " + strings.Repeat("QUJD", 8) + "\nHMAC_KEY_BASE64 " + strings.Repeat("REVG", 16) + "\n"
	return map[string]string{
		"fwknopd.conf": strings.ReplaceAll("FWKNOP_RUN_DIR F;\nFWKNOP_PID_FILE F/fwknopd.pid;\nDIGEST_FILE F/fwknopd.digests;\n", " F", " "+folder),
		"access.conf":  "SOURCE ANY\nREQUIRE_SOURCE_ADDRESS N\nFW_ACCESS_TIMEOUT 10\n" + keys,
		".fwknoprc":    "[bench]\nACCESS tcp/22\nALLOW_IP source\nSPA_SERVER 10.0.0.1\n" + keys,
	}
}

// hasFwknop reports whether both are installed.
func hasFwknop() bool {
	for _, name := range []string{"fwknop", "fwknopd"} {
		if _, err := exec.LookPath(name); err != nil {
			return false
		}
	}
	return true
}
