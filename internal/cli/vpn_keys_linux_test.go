package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// vpnKeys makes what an OpenVPN server and its client need to know each other
// (ca.crt, and a .crt and .key for either) in a folder of its own.
func vpnKeys(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	issuer, issuerKey := vpnCertificate(t, folder, "ca", nil, nil)
	vpnCertificate(t, folder, "server", issuer, issuerKey, x509.ExtKeyUsageServerAuth)
	vpnCertificate(t, folder, "client", issuer, issuerKey, x509.ExtKeyUsageClientAuth)
	return folder
}

// vpnCertificate makes a key and its certificate, signed by the issuer or, if there
// is none, by itself.
func vpnCertificate(t *testing.T, folder, name string, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey, use ...x509.ExtKeyUsage) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  use,
	}
	if issuer == nil {
		issuer, issuerKey = c, key
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	signed, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: signed},
		name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(folder, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c, key
}
