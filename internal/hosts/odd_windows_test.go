package hosts

import "os"

// odd makes what can be in a file's place and is none. (Links take a privilege here.)
var odd = map[string]func(path string) error{
	"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
}
