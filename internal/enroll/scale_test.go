package enroll

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"postern/internal/key"
	"postern/internal/keyfile"
)

// TestTenThousandUsers: one more is added to ten thousand users with three devices each,
// and one is revoked.
func TestTenThousandUsers(t *testing.T) {
	var users, list strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&users, "  user%05d: {devices: [laptop, phone, tablet]}\n", i)
		fmt.Fprintf(&list, "user%05d, ", i)
	}
	f := in(t, "version: 1\nposture: closed\nkeys: {port: udp/20001}\nusers:\n"+users.String()+
		"doors:\n  ssh:\n    service: 22\n    knock: {key: ["+strings.TrimSuffix(list.String(), ", ")+"]}\n")
	keys := &keyfile.File{Site: key.NewSite()}
	for i := range 10_000 {
		for _, device := range []string{"laptop", "phone", "tablet"} {
			keys.Devices = append(keys.Devices, keyfile.Device{Name: fmt.Sprintf("user%05d/%s", i, device), ID: key.NewDevice(), Secret: key.NewSecret()})
		}
	}
	if err := os.WriteFile(f.Keys, keys.Format(), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t)(f.Add(Wish{User: "alice", Device: "laptop"}))
	r := must(t)(f.Revoke("user05000", ""))
	if len(r.Gone) != 3 || len(r.Policy.Users) != 10_000 || r.Policy.User("user05000") != nil {
		t.Errorf("%d are gone, of %d users", len(r.Gone), len(r.Policy.Users))
	}
}
