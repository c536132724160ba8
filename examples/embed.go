// Package examples holds policies to start from. Its tests keep them valid.
package examples

import _ "embed"

// Howto is howto.yaml, which the demo loads.
//
//go:embed howto.yaml
var Howto string
