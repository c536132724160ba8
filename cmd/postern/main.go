// Command postern hides network services behind a knock. What it does is in
// internal/cli, a verb a file.
package main

import (
	"os"

	"postern/internal/cli"
)

func main() {
	os.Exit(cli.Main())
}
