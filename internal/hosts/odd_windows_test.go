package hosts

import "os"

// odd creates things other than a regular file. (Links need a privilege here.)
var odd = map[string]func(path string) error{
	"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
}
